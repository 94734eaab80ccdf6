import PeatNN
import PeatTensor

/// A transformer: embedding, blocks, final norm, head.
///
/// Several models may share tensors: an emulator and the full model, or the clients of one process. Weights are
/// frozen until a trainer takes them.
///
/// Unchecked Sendable: a prompt is set between steps, by the owner of the model.
public final class TransformerModel: @unchecked Sendable {
  public let configuration: TransformerConfiguration
  public let embedding: Parameter
  public let positions: Parameter?
  /// What is added to the embedding of each token of a kind, `[kinds, d]`.
  let tokenTypes: Parameter?
  public let embeddingNorm: Normalization?
  /// From the embedding's width to that of states, and from there back behind the final norm, where the embedding is narrower.
  let inputProjection: Linear?
  let outputProjection: Linear?
  /// Where the model sees pictures.
  let image: ImageEmbedding?
  /// As they are stored; `order` says how they are run.
  public let blocks: [TransformerBlock]
  let order: [Int]
  /// The norm behind an encoder's blocks, where the model has one.
  public let encoderNorm: Normalization?
  /// What attention adds by distance, `[buckets, heads]`, for each stack of blocks.
  let relativeTables: [Parameter]
  public let finalNorm: Normalization?
  /// What stands on the last states; `nil`: they are the result.
  public let head: OutputHead?
  /// Learned embeddings in front of those of each sequence's tokens, `[P, d]`, where the model is tuned that way.
  public var prompt: Parameter?

  /// - Parameters:
  ///   - configuration: the description.
  ///   - weights: weights under the names of `configuration.keys`.
  ///   - blockNumbers: for each block its number in the full model; 0, 1, 2, … if not given.
  ///   - storage: how matrices are kept.
  ///   - source: what errors call the model, usually its folder.
  /// - Throws: `badData` where a tensor is missing, has another shape than the configuration says, or is not known.
  public init(
    configuration: TransformerConfiguration, weights: some WeightSource,
    blockNumbers: [Int]? = nil, storage: StoragePlan = .all(.float32), source: String
  ) throws {
    let configuration = blockNumbers == nil ? configuration.standingAlone : configuration
    let numbers = blockNumbers ?? Array(0..<configuration.blockCount)
    precondition(
      numbers.count == configuration.blockCount, "TransformerModel: block numbers \(numbers)")
    let reader = try TensorReader(
      weights: weights, keys: configuration.keys,
      // What heads of other kinds have, a model of classes or without a head does not need.
      ignoredPrefixes: configuration.head?.place == .each ? [] : TransformerKeys.headPrefixes,
      storage: storage, source: source)
    try configuration.variation.validate(for: configuration, source: source)
    self.configuration = configuration
    order = configuration.order
    let keys = configuration.keys
    let tableShape = [configuration.vocabularySize, configuration.embeddingWidth]
    embedding = try reader.parameter(
      keys.embedding, configuration.image?.projectionShape(configuration.hiddenSize) ?? tableShape,
      inputAxis: configuration.image == nil ? 1 : nil)
    positions = try keys.positions.map {
      let shape = [configuration.positionRows, configuration.hiddenSize]
      return try reader.parameter(
        $0, keys.image.map { !$0.isFlat } ?? false ? [1] + shape : shape, inputAxis: nil)
    }
    let projection = embedding
    image = try configuration.image.map {
      try ImageEmbedding($0, projection, configuration, reader.parameter)
    }
    let hidden = configuration.hiddenSize
    tokenTypes = try keys.tokenTypes.map {
      try reader.parameter($0, [configuration.tokenTypes, hidden], inputAxis: nil)
    }
    embeddingNorm = try keys.embeddingNorm.map {
      try .make(configuration, $0, width: hidden, reader.parameter)
    }
    let width = configuration.embeddingWidth
    func widthProjection(_ name: String?, _ shape: [Int]) throws -> Linear? {
      try name.map { name in
        Linear(
          name, weight: try reader.parameter("\(name).weight", shape, inputAxis: 1), bias: nil,
          layout: .outputsByInputs)
      }
    }
    inputProjection = try widthProjection(keys.inputProjection, [hidden, width])
    outputProjection = try widthProjection(keys.outputProjection, [width, hidden])
    blocks = try numbers.enumerated().map { number, fullNumber in
      try TransformerBlock(
        configuration: configuration, number: number, numberInFullModel: fullNumber,
        parameter: reader.parameter)
    }
    encoderNorm = try keys.decoder.map {
      try .make(configuration, $0.encoderNorm, width: hidden, reader.parameter)
    }
    if case .relative(let buckets, _) = configuration.positions {
      let shape = [buckets, configuration.heads]
      relativeTables = try keys.relativeTables.map {
        try reader.parameter($0, shape, inputAxis: nil)
      }
    } else {
      relativeTables = []
    }
    finalNorm = try keys.finalNorm.map {
      try .make(configuration, $0, width: configuration.hiddenSize, reader.parameter)
    }
    let table = embedding
    head = try configuration.head.map {
      try OutputHead($0, of: configuration, embedding: table, reader.parameter)
    }
    if let tied = configuration.head, tied.isTied {
      try reader.checkTied(tied.weight, to: keys.embedding)
    }
    try reader.checkNothingIsLeft()
  }

  /// A model of tensors that are all at hand.
  public convenience init(
    configuration: TransformerConfiguration, tensors: NamedTensors, blockNumbers: [Int]? = nil,
    source: String
  ) throws {
    try self.init(
      configuration: configuration, weights: tensors, blockNumbers: blockNumbers, source: source)
  }

  /// Every weight once, without low-rank updates.
  public var parameters: [Parameter] {
    inputParameters + blocks.flatMap(\.parameters) + (encoderNorm?.parameters ?? [])
      + (finalNorm?.parameters ?? []) + (outputProjection?.parameters ?? [])
      + (head?.parameters ?? [])
  }

  /// Those below the blocks, or of all of them.
  private var inputParameters: [Parameter] {
    [embedding, positions, tokenTypes].compactMap { $0 } + (image?.parameters ?? [])
      + (embeddingNorm?.parameters ?? []) + (inputProjection?.parameters ?? []) + relativeTables
  }

  /// The weights by name, sharing memory with the model.
  public var tensors: NamedTensors {
    Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.tensor) })
  }

  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }

  /// How frozen matrices are kept, beside those that an emulator keeps packed anyway.
  public var storage: WeightStorage { embedding.storage }

  /// Bytes that the weights take in memory.
  public var byteCount: Int { parameters.reduce(0) { $0 + $1.byteCount } }

  /// Rows of a prompt that is learned.
  public var promptLength: Int { prompt?.shape[0] ?? 0 }

  /// Positions that nobody's tokens take: those of a prompt, or of keys and values that are learned.
  public var virtualTokens: Int { promptLength + prefixLength }

  /// Longest sequence, in tokens, with the adapter that is in it.
  public var contextLength: Int { max(configuration.contextLength - virtualTokens, 0) }

  /// For messages about the context: what the adapter takes of it, or nothing.
  public var besideVirtualTokens: String {
    virtualTokens == 0 ? "" : " beside the \(virtualTokens) virtual tokens of its adapter"
  }

  /// How many learned keys and values stand in front of sequences. Blocks without them count positions as the others do.
  private var prefixLength: Int { blocks.reduce(0) { max($0, $1.prefix?.count ?? 0) } }

  /// Rows on their way through the blocks, and the positions they have there.
  struct Placement {
    let rows: SequenceLayout
    let positions: SequenceLayout
    /// The rows without a prompt's.
    let tokens: SequenceLayout
  }

  private func placement(of layout: SequenceLayout) -> Placement {
    let rows = layout.prepending(promptLength)
    return Placement(rows: rows, positions: rows.shifted(by: prefixLength), tokens: layout)
  }

  private func embedded(
    _ inputs: ModelInputs, _ placement: Placement, on tape: Tape
  ) -> Activation {
    if let image {
      let rows = image.embedded(inputs, placement.positions, positions, on: tape)
      return embeddingNorm?(rows, on: tape) ?? rows
    }
    let unplaced = unplacedPositions(inputs.numbers, placement.positions)
    var rows = tape.embedding(
      inputs.numbers, layout: placement.positions, table: embedding.weight,
      scale: configuration.embeddingScale,
      positions: inputProjection == nil && unplaced == nil ? positions?.weight : nil,
      firstPosition: configuration.firstPositionRow, shared: tokenTypes?.weight,
      types: inputs.types, prompt: prompt?.weight)
    if let unplaced { rows = withPositions(rows, unplaced, on: tape) }
    if let inputProjection {
      return withPositions(inputProjection(rows, on: tape), placement.positions, on: tape)
    }
    return embeddingNorm?(rows, on: tape) ?? rows
  }

  /// The row of each token's position where some tokens have none of their own; `nil` where none does. Behind a prompt's rows, which are no tokens, all have one, as
  /// transformers sees embeddings there and no tokens.
  private func unplacedPositions(
    _ tokens: UnsafeBufferPointer<Int32>, _ layout: SequenceLayout
  ) -> [Int32]? {
    guard let unplaced = configuration.unplacedToken, prompt == nil, tokens.contains(unplaced)
    else { return nil }
    let first = Int32(configuration.firstPositionRow)
    return layout.pieces.flatMap { piece in
      var next = first + Int32(piece.position)
      return (0..<piece.count).map { number in
        guard tokens[piece.row + number] != unplaced else { return first - 1 }
        defer { next += 1 }
        return next
      }
    }
  }

  /// Adds the learned row of each state's position.
  private func withPositions(
    _ states: Activation, _ layout: SequenceLayout, on tape: Tape
  ) -> Activation {
    let first = configuration.firstPositionRow
    return withPositions(
      states,
      layout.pieces.flatMap { piece in
        (0..<piece.count).map { Int32(first + piece.position + $0) }
      }, on: tape)
  }

  private func withPositions(
    _ states: Activation, _ numbers: [Int32], on tape: Tape
  ) -> Activation {
    guard let positions else { return states }
    let rows = numbers.withUnsafeBufferPointer {
      tape.embedding(
        $0, layout: SequenceLayout(lengths: [numbers.count]), table: positions.weight)
    }
    return tape.addition(states, rows)
  }

  /// The final norm of the rows that belong to tokens, what leads from there to the embedding's width, and a sequence's mean where the head looks at that.
  private func final(_ states: Activation, _ placement: Placement, on tape: Tape) -> Activation {
    if configuration.hasEncoder { return finalOfDecoder(states, placement, on: tape) }
    // A head that looks at a sequence's first state sees a prompt's first where there is one, as PEFT has it.
    let rows =
      placement.rows.prepended == 0
      ? states
      : tape.rows(
        states,
        head?.layout.place == .first ? placement.rows.headedRows : placement.rows.tokenRows)
    let normalized = finalNorm?(rows, on: tape) ?? rows
    let states = outputProjection?(normalized, on: tape) ?? normalized
    guard head?.layout.place == .mean else { return states }
    return tape.meanInFirst(
      states, layout: placement.tokens, skipping: configuration.image?.ownTokens ?? 0)
  }

  /// The final hidden states, `[N, d]`, or as wide as the embedding's rows where those are narrower; where the head looks at a sequence's mean, that stands in the place of the first.
  ///
  /// - Parameters:
  ///   - inputs: `N` of them, sequence by sequence.
  ///   - layout: how they divide into sequences, none longer than `contextLength`.
  ///   - checkpointing: keep only each block's input and compute the block again in the backward pass.
  ///   - cache: the tokens before these, which are then one sequence; `layout` counts from there.
  ///   - noise: on the states on their way, for training.
  public func hiddenStates(
    _ inputs: ModelInputs, layout: SequenceLayout, on tape: Tape,
    checkpointing: Bool = false, cache: KeyValueCache? = nil, noise: StateNoise? = nil
  ) -> Activation {
    let placement = placement(of: layout)
    let embedded = embedded(inputs, placement, on: tape)
    guard let noise, order.indices.contains(noise.place) else {
      return final(
        through(
          order.indices, embedded, placement, on: tape, checkpointing: checkpointing, cache: cache),
        placement, on: tape)
    }
    let states = through(
      0..<noise.place, embedded, placement, on: tape, checkpointing: checkpointing, cache: cache)
    noise.add(to: states, tokens: inputs.numbers)
    let x = through(
      noise.place..<order.count, states, placement, on: tape, checkpointing: checkpointing,
      cache: cache)
    return final(x, placement, on: tape)
  }

  /// What goes into the block that is run after `count` others, `[N, d]`; a prompt's rows are among them.
  package func hiddenStates(
    below count: Int, _ inputs: ModelInputs, layout: SequenceLayout, on tape: Tape
  ) -> Activation {
    let placement = placement(of: layout)
    return through(0..<count, embedded(inputs, placement, on: tape), placement, on: tape)
  }

  /// Some blocks of those that are run, by their place in the order; a prompt's rows are among the states.
  package func hiddenStates(
    through places: Range<Int>, _ states: Activation, layout: SequenceLayout, on tape: Tape,
    checkpointing: Bool = false
  ) -> Activation {
    through(places, states, placement(of: layout), on: tape, checkpointing: checkpointing)
  }

  /// The rest of the computation, from what goes into the block that is run as number `first`; a prompt's rows are among it.
  package func hiddenStates(
    from first: Int, _ states: Activation, layout: SequenceLayout, on tape: Tape,
    checkpointing: Bool = false
  ) -> Activation {
    let placement = placement(of: layout)
    return final(
      through(first..<order.count, states, placement, on: tape, checkpointing: checkpointing),
      placement, on: tape)
  }

  private func through(
    _ range: Range<Int>, _ states: Activation, _ placement: Placement, on tape: Tape,
    checkpointing: Bool = false, cache: KeyValueCache? = nil
  ) -> Activation {
    if configuration.hasEncoder {
      return throughStacks(
        range, states, placement, on: tape, checkpointing: checkpointing, cache: cache)
    }
    var x = states
    let (layout, positions) = (placement.rows, placement.positions)
    let rotary = rotaryTable(positions: positions.positions)
    for index in range {
      let block = blocks[order[index]]
      // The last block's backward pass comes at once: computing it again would save nothing.
      if checkpointing, index < order.count - 1 {
        x = tape.checkpoint(x, trains: block.trains) { tape, x in
          block(x, layout: layout, positions: positions, rotary: rotary, on: tape)
        }
      } else {
        x = block(
          x, layout: layout, positions: positions, rotary: rotary, on: tape,
          cache: cache?.layers[index])
      }
    }
    return x
  }

  /// How many of the blocks that are run first have nothing that trains, neither in them nor in the embedding below: what goes into the
  /// next one depends on the tokens alone.
  package var frozenBlocks: Int {
    if inputParameters.contains(where: \.trains) || prompt != nil { return 0 }
    return order.firstIndex { blocks[$0].trains } ?? order.count
  }

  /// After how many of the blocks that are run the last one comes in which nothing trains; `nil` where there is none.
  package var placeBehindFrozen: Int? {
    order.lastIndex { !blocks[$0].trains }.map { $0 + 1 }
  }

  /// Angles for at least so many positions; tables grow in powers of two, so that short texts need little.
  private func rotaryTable(positions: Int) -> RotaryTable? {
    precondition(
      positions <= configuration.contextLength,
      "\(positions) positions, the model has \(configuration.contextLength)")
    guard case .rotary(let embedding) = configuration.positions else { return nil }
    var capacity = 64
    while capacity < positions { capacity *= 2 }
    return .shared(embedding, positions: capacity)
  }

  /// The loss of predicting `targets` and, on a recording tape, the start of its gradient.
  ///
  /// - Parameters:
  ///   - inputs: `N` of them.
  ///   - targets: `N` token numbers to be predicted, negative where nothing is.
  ///   - layout: how they divide into sequences.
  ///   - scale: what the summed loss is multiplied with before gradients are taken.
  ///   - logitRows: how many rows of logits are held at a time.
  public func loss(
    _ inputs: ModelInputs, targets: UnsafeBufferPointer<Int32>,
    layout: SequenceLayout, scale: Float = 1, on tape: Tape, checkpointing: Bool = false,
    logitRows: Int = 256, noise: StateNoise? = nil
  ) -> TokenLoss {
    loss(
      of: hiddenStates(
        inputs, layout: layout, on: tape, checkpointing: checkpointing, noise: noise),
      targets: targets, scale: scale, on: tape, logitRows: logitRows)
  }

  /// The loss from the final hidden states on.
  package func loss(
    of hidden: Activation, targets: UnsafeBufferPointer<Int32>, scale: Float, on tape: Tape,
    logitRows: Int
  ) -> TokenLoss {
    guard let head else { preconditionFailure("a model without a head has no loss") }
    return head.loss(hidden, targets: targets, scale: scale, on: tape, chunkRows: logitRows)
  }

  /// Logits for every position, `[B·T, V]`, or final states where there is no head: for small inputs and tests.
  ///
  /// - Parameter sourceLength: how many tokens of each sequence an encoder reads; half of them if not given.
  public func logits(
    _ tokens: [Int32], length: Int, sourceLength: Int? = nil, types: [Int32] = [],
    patches: PatchTable? = nil
  ) -> Tensor {
    let tape = Tape()
    return tokens.withUnsafeBufferPointer { tokens in
      types.withUnsafeBufferPointer { types in
        let hidden = hiddenStates(
          ModelInputs(tokens, types: types.isEmpty ? nil : types, patches: patches),
          layout: layout(rows: tokens.count, length: length, sourceLength: sourceLength), on: tape)
        return (head?.logits(hidden, on: tape) ?? hidden).tensor()
      }
    }
  }
}

/// Hands tensors to a model by name, checks their shapes, and knows which were not asked for.
private final class TensorReader {
  private let weights: any WeightSource
  private let keys: TransformerKeys
  private let storage: StoragePlan
  private let source: String
  private let ignoredPrefixes: [String]
  private let missingPrefix: String
  private var unused: Set<String>

  init(
    weights: any WeightSource, keys: TransformerKeys, ignoredPrefixes: [String],
    storage: StoragePlan, source: String
  ) throws {
    self.weights = weights
    self.keys = keys
    self.storage = storage
    self.source = source
    self.ignoredPrefixes = ignoredPrefixes
    unused = try weights.names
    missingPrefix = keys.missingPrefix { [unused] in unused.contains($0) }
  }

  /// - Parameter inputAxis: the input dimension of a linear layer's matrix; `nil` for what always stays float32.
  func parameter(_ name: String, _ shape: [Int], inputAxis: Int?) throws -> Parameter {
    let stored = name.dropping(prefix: missingPrefix)
    if let inputAxis,
      let matrix = try weights.packed(named: stored, shape: shape, inputAxis: inputAxis)
    {
      for part in [stored, stored + PackedMatrix.scalesSuffix] where unused.remove(part) != nil {
        weights.release(part)
      }
      return Parameter(name, matrix)
    }
    guard let stored = try storedName(of: stored), let tensor = try weights.tensor(named: stored)
    else {
      throw PeatError.badData(
        "'\(source)' has no tensor '\(stored)', which config.json asks for. Check that config.json and the "
          + "safetensors files come from the same checkpoint.")
    }
    guard tensor.shape == shape else {
      throw PeatError.badData(
        "'\(source)': '\(stored)' has shape \(tensor.shape), config.json expects \(shape). Check that config.json "
          + "and the safetensors files come from the same checkpoint.")
    }
    unused.remove(stored)
    let parameter = Parameter(name, tensor)
    if let inputAxis, storage(name) != .float32 {
      parameter.pack(
        as: storage(name), axis: inputAxis, halfScales: storage.hasHalfScales)
      weights.release(stored)
    } else if !tensor.isMapped {
      // Halves were read into memory of their own.
      weights.release(stored)
    }
    return parameter
  }

  /// A tensor's name as the files have it, which may be an older one; `nil` where there is none.
  private func storedName(of name: String) throws -> String? {
    if try weights.tensor(named: name) != nil { return name }
    for (suffix, older) in keys.olderSuffixes where name.hasSuffix(suffix) {
      let other = name.dropLast(suffix.count) + older
      if unused.contains(String(other)) { return String(other) }
    }
    return nil
  }

  /// Some files hold a tied head as well; it must be the embedding then.
  func checkTied(_ name: String, to other: String) throws {
    guard unused.remove(name) != nil, let tensor = try weights.tensor(named: name),
      let table = try weights.tensor(named: other)
    else { return }
    guard tensor.shape == table.shape, tensor.hasSameBits(as: table) else {
      throw PeatError.badData(
        "'\(source)': config.json ties the head to the embedding (tie_word_embeddings), but '\(name)' differs from "
          + "'\(other)'. Set tie_word_embeddings to false, or remove the tensor.")
    }
  }

  func checkNothingIsLeft() throws {
    let strangers = unused.filter { name in
      !(keys.ignoredSuffixes + keys.unusedSuffixes).contains { name.hasSuffix($0) }
        && !(ignoredPrefixes + keys.ignoredPrefixes).contains { name.hasPrefix($0) }
    }
    guard let first = strangers.min() else { return }
    throw PeatError.badData(
      "'\(source)' holds \(strangers.count) tensor(s) that config.json does not account for, such as '\(first)'. "
        + "Check that config.json and the safetensors files come from the same checkpoint.")
  }
}
