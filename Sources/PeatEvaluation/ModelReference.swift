import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor

/// What another program computed of a checkpoint: logits, loss and gradients for some tokens.
///
/// A safetensors file with `input_ids` and `targets` `[B, T]` (−1 where nothing is predicted), where tokens are of several types `token_types` `[B, T]`, `logits` `[B, T, V]` or `[B, classes]`, `loss` `[1]`, the mean over
/// all targets, and `gradient.NAME` of parameters. Of a model without a head it has `states` `[B, T, d]`, and the loss is the mean of
/// their squares. Of a model with an encoder each row is a source and, behind it, what the decoder reads, `source_length` `[1]` says how long the source is, and
/// logits are the decoder's. `Tools/golden/reference.py` makes it with transformers.
public struct ModelReference: Sendable {
  private let rows: [[Int32]]
  /// `[B · T]`.
  private let targets: [Int32]
  /// Or states.
  private let logits: Tensor
  private let areStates: Bool
  /// How many of each row's tokens an encoder reads.
  private let sourceLength: Int?
  private let patches: PatchTable?
  /// `[B · T]`; empty where all tokens are of the first type.
  private let types: [Int32]
  private let loss: Float
  private let gradients: NamedTensors

  /// How far a model is from the reference: the largest difference over the largest value, of each tensor. Gradients whose largest value is
  /// below a hundredth of all gradients' are compared with that: those of keys' biases are rounding alone, as no score's rank depends on them.
  public struct Agreement: Sendable, Codable, Equatable {
    public let logits: Double
    public let loss: Double
    /// Of the gradient that is furthest off.
    public let gradient: Double
    /// The parameter whose gradient that is.
    public let furthest: String
    public let gradients: Int
  }

  private static let prefix = "gradient."
  /// What the file is called beside a model.
  public static let fileName = "reference.safetensors"

  /// - Throws: `badData` where something is missing or of another shape.
  public init(contentsOf url: URL) throws {
    let tensors = try SafeTensorsFile(contentsOf: url).tensors()
    func tensor(_ name: String, dimensions: Int) throws -> Tensor {
      guard let tensor = tensors[name], tensor.shape.count == dimensions, tensor.count > 0 else {
        throw PeatError.badData(
          "'\(url.path)' has no '\(name)' of \(dimensions) dimensions. Make the file with Tools/golden/reference.py."
        )
      }
      return tensor
    }
    let ids = try tensor("input_ids", dimensions: 2)
    let goals = try tensor("targets", dimensions: 2)
    areStates = tensors["states"] != nil
    sourceLength = try tensors["source_length"].map { _ in
      let value = try tensor("source_length", dimensions: 1).scalars[0]
      guard value >= 1, value < Float(ids.shape[1]), value == value.rounded() else {
        throw PeatError.badData(
          "'\(url.path)' has a source_length of \(value) in rows of \(ids.shape[1]).")
      }
      return Int(value)
    }
    let logits =
      areStates
      ? try tensor("states", dimensions: 3)
      : try tensor("logits", dimensions: tensors["logits"]?.shape.count == 2 ? 2 : 3)
    guard ids.shape[1] > 1, goals.shape == ids.shape,
      Array(logits.shape.dropLast())
        == Array(
          [ids.shape[0], ids.shape[1] - (sourceLength ?? 0)].prefix(logits.shape.count - 1)),
      (ids.scalars + goals.scalars).allSatisfy({ abs($0) < 0x1p24 && $0 == $0.rounded() }),
      ids.scalars.allSatisfy({ $0 >= 0 || tensors["patches"] != nil }),
      areStates || goals.scalars.allSatisfy({ $0 < Float(logits.shape.last ?? 0) })
    else {
      throw PeatError.badData(
        "'\(url.path)': input_ids \(ids.shape) and targets \(goals.shape) must be whole numbers, two or more in a row, and what they are beside \(logits.shape)."
      )
    }
    patches = try tensors["patches"].map { _ in
      PatchTable(try tensor("patches", dimensions: 2))
    }
    if let patches, ids.scalars.contains(where: { $0 < -2 || $0 >= Float(patches.count) }) {
      throw PeatError.badData(
        "'\(url.path)': input_ids number \(patches.count) patches, or the model's own tokens below 0."
      )
    }
    rows = (0..<ids.shape[0]).map { row in
      ids.scalars[row * ids.shape[1]..<(row + 1) * ids.shape[1]].map { Int32($0) }
    }
    targets = goals.scalars.map { Int32($0) }
    types =
      try tensors["token_types"].map { _ in
        let types = try tensor("token_types", dimensions: 2)
        guard types.shape == ids.shape,
          types.scalars.allSatisfy({ $0 >= 0 && $0 < 0x1p24 && $0 == $0.rounded() })
        else {
          throw PeatError.badData(
            "'\(url.path)': token_types \(types.shape) must be whole numbers from 0 on, as many as input_ids \(ids.shape)."
          )
        }
        return types.scalars.map { Int32($0) }
      } ?? []
    self.logits = logits
    loss = try tensor("loss", dimensions: 1).scalars[0]
    gradients = Dictionary(
      uniqueKeysWithValues: tensors.filter { $0.key.hasPrefix(Self.prefix) }.map {
        (String($0.key.dropFirst(Self.prefix.count)), $0.value)
      })
  }

  /// Computes the same with a model. Its weights are as before afterwards.
  ///
  /// - Throws: `badData` where the model is another one than the reference is of.
  public func agreement(of model: TransformerModel, threads: Int = 1) throws -> Agreement {
    let configuration = model.configuration
    let length = rows[0].count
    let outputs = areStates ? configuration.embeddingWidth : configuration.outputCount
    guard logits.shape.last == outputs, (model.head == nil) == areStates,
      (configuration.image != nil) == (patches != nil),
      configuration.hasEncoder == (sourceLength != nil),
      patches.map({ $0.values.shape[1] == configuration.vocabularySize })
        ?? rows.joined().allSatisfy({ $0 < configuration.vocabularySize }),
      rows.joined().allSatisfy({ $0 >= -Int32(configuration.image?.ownTokens ?? 0) }),
      length <= model.contextLength, (types.max() ?? 0) < max(configuration.tokenTypes, 1),
      configuration.image == nil || length == configuration.contextLength
    else {
      throw PeatError.badData(
        "The reference has \(areStates ? "states" : "logits") \(logits.shape) and rows of \(length) tokens; the model gives \(outputs) and takes \(model.contextLength)."
      )
    }
    var found = model.logits(
      rows.flatMap { $0 }, length: length, sourceLength: sourceLength, types: types,
      patches: patches)
    if let sourceLength {
      found = Tensor(
        rows.indices.flatMap { row in
          found.rows(row * length + sourceLength..<(row + 1) * length).scalars
        }, shape: logits.shape)
    }
    if logits.shape.count == 2 {
      let head = model.head?.layout
      found = Tensor(
        rows.indices.flatMap { row in
          let place =
            row * length
            + HeadLayout.place(
              ofClassIn: rows[row], atFirst: head?.place != .last, padToken: head?.padToken)
          return found.rows(place..<place + 1).scalars
        }, shape: logits.shape)
    }
    let (computed, ownLoss) = gradient(of: model, threads: threads)
    let expected = Dictionary(
      uniqueKeysWithValues: gradients.map { name, tensor in
        // Models without a head leave a prefix out.
        let prefixed = (configuration.keys.optionalPrefix ?? "") + name
        return (computed[name] == nil && computed[prefixed] != nil ? prefixed : name, tensor)
      })
    for (name, tensor) in expected {
      guard let own = computed[name], own.shape == tensor.shape else {
        throw PeatError.badData(
          "The reference has a gradient of '\(name)' \(tensor.shape), the model \(computed[name].map { "one of \($0.shape)" } ?? "no such parameter")."
        )
      }
    }
    if let missing = computed.keys.sorted().first(where: { expected[$0] == nil }),
      !expected.isEmpty
    {
      throw PeatError.badData("The reference has no gradient of '\(missing)', which the model has.")
    }
    let largest = expected.values.reduce(0) { max($0, Self.largest($1)) }
    let distances = expected.map { name, tensor in
      (name: name, distance: distance(computed[name] ?? tensor, tensor, least: 1e-2 * largest))
    }.sorted { ($0.distance, $1.name) > ($1.distance, $0.name) }
    return Agreement(
      logits: distance(found.reshaped(logits.shape), logits),
      loss: abs(Double(ownLoss) - Double(loss)) / Double(loss),
      gradient: distances.first?.distance ?? 0, furthest: distances.first?.name ?? "",
      gradients: distances.count)
  }

  /// The gradient of each parameter, and the loss.
  private func gradient(
    of model: TransformerModel, threads: Int
  ) -> (gradients: NamedTensors, loss: Double) {
    let trainable = TrainableParameters(model.parameters)
    defer { trainable.release() }
    let workers = StepWorkers(count: threads, parameterCount: trainable.count)
    workers.zeroGradient()
    let tokens = rows.flatMap { $0 }
    let (targets, areStates) = (targets, areStates)
    let batch = TokenBatch(
      tokens: tokens, targets: targets, windowLengths: rows.map(\.count), types: types,
      patches: patches)
    let count =
      areStates ? logits.count : targets.count { $0 >= 0 }
    let scale = 1 / Float(max(count, 1))
    let loss = workers.run(
      model.layout(rows: tokens.count, length: rows[0].count, sourceLength: sourceLength),
      wholeSequences: model.configuration.needsWholeSequences
    ) { tape, layout in
      batch.withInputs { inputs in
        targets.withUnsafeBufferPointer { targets in
          let inputs = inputs[layout.rows]
          if areStates {
            let states = model.hiddenStates(inputs, layout: layout, on: tape)
            let nothing = tape.input(Tensor(zeros: [states.rows, states.columns]))
            return TokenLoss(
              sum: tape.squaredError(states, to: nothing, scale: scale),
              count: states.rows * states.columns)
          }
          return model.loss(
            inputs, targets: UnsafeBufferPointer(rebasing: targets[layout.rows]), layout: layout,
            scale: scale, on: tape)
        }
      }
    }
    workers.joinGradients()
    var result: NamedTensors = [:]
    for (parameter, range) in zip(trainable.parameters, trainable.ranges) {
      let tensor = Tensor(uninitialized: parameter.shape)
      tensor.pointer.update(from: workers.gradient + range.lowerBound, count: range.count)
      result[parameter.name] = tensor
    }
    return (result, loss.mean)
  }

  /// max |a − b| / max |b|; infinite where something is not a number.
  private func distance(_ found: Tensor, _ expected: Tensor, least: Double = 0) -> Double {
    guard found.shape == expected.shape else { return .infinity }
    var difference = 0.0
    for (a, b) in zip(found.scalars, expected.scalars) {
      guard a.isFinite, b.isFinite else { return .infinity }
      difference = max(difference, abs(Double(a) - Double(b)))
    }
    let size = max(Self.largest(expected), least)
    return size == 0 ? difference : difference / size
  }

  private static func largest(_ tensor: Tensor) -> Double {
    tensor.scalars.reduce(0) { max($0, abs(Double($1))) }
  }
}
