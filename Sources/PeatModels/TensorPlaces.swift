import PeatTensor

/// Where what a narrower block has of a tensor lies in one as large as config.json says; all else is zeros there.
///
/// Zeros change nothing: a head whose values are 0 gives 0 whatever it attends to, and the output layer does not look at it; a channel of 0 stays 0 in GELU
/// and SwiGLU.
package struct TensorPlaces: Sendable {
  /// Some lines of a matrix that has `whole` of them, each with its place.
  struct Lines {
    var places: [Int]
    var whole: Int

    /// `nil` where none is missing.
    init?(_ places: [Int], of whole: Int) {
      if places.count == whole { return nil }
      self.places = places
      self.whole = whole
    }
  }

  var rows: Lines?
  /// `nil` for a vector.
  var columns: Lines?

  /// A larger tensor with what is there in its places.
  package func spread(_ tensor: Tensor) -> Tensor {
    let matrix = Self.matrix(tensor)
    let (own, width) = (matrix.shape[0], matrix.shape[1])
    let result = Tensor(zeros: [rows?.whole ?? own, columns?.whole ?? width])
    for row in 0..<own {
      let target = result.pointer + (rows?.places[row] ?? row) * result.shape[1]
      for column in 0..<width {
        target[columns?.places[column] ?? column] = matrix.pointer[row * width + column]
      }
    }
    return tensor.shape.count == 1 ? result.reshaped([result.count]) : result
  }

  /// What was spread; `nil` where the tensor is of another size, or has something else than zeros around it.
  package func gather(_ tensor: Tensor) -> Tensor? {
    guard (1...2).contains(tensor.shape.count) else { return nil }
    let matrix = Self.matrix(tensor)
    let (whole, width) = (matrix.shape[0], matrix.shape[1])
    guard rows.map({ $0.whole == whole }) ?? true, columns.map({ $0.whole == width }) ?? true
    else { return nil }
    let result = Tensor(
      uninitialized: [rows?.places.count ?? whole, columns?.places.count ?? width])
    for row in 0..<result.shape[0] {
      let source = matrix.pointer + (rows?.places[row] ?? row) * width
      let target = result.pointer + row * result.shape[1]
      for column in 0..<result.shape[1] {
        target[column] = source[columns?.places[column] ?? column]
      }
    }
    func count(_ tensor: Tensor) -> Int {
      tensor.withUnsafeBufferPointer { values in values.count { $0 != 0 } }
    }
    guard count(matrix) == count(result) else { return nil }
    return tensor.shape.count == 1 ? result.reshaped([result.count]) : result
  }

  private static func matrix(_ tensor: Tensor) -> Tensor {
    tensor.shape.count == 1 ? tensor.reshaped([tensor.count, 1]) : tensor
  }
}

extension TransformerConfiguration {
  /// The places of all tensors of narrower blocks that are smaller than config.json says, by name: of linear layers' matrices and biases, factors left out.
  ///
  /// Groups of heads fill the whole block's groups from the first on, so that each head finds the keys and values it had.
  ///
  /// - Throws: `badData` where a block's heads share keys and values in a way that the whole model's can't.
  package func tensorPlaces() throws -> [String: TensorPlaces] {
    var result: [String: TensorPlaces] = [:]
    for number in 0..<blockCount where variation.sizes[String(number)] != nil {
      let name = keys.block(number)
      let keys = keys.ofBlock(number)
      let places = try BlockPlaces(sizes(ofBlock: number), in: self, keys, name: name)
      for path in keys.linearPaths {
        let (inputs, outputs) = places.ofLinear(path)
        if inputs == nil, outputs == nil { continue }
        result["\(name).\(path).weight"] =
          layout == .outputsByInputs
          ? TensorPlaces(rows: outputs, columns: inputs)
          : TensorPlaces(rows: inputs, columns: outputs)
        if outputs != nil { result["\(name).\(path).bias"] = TensorPlaces(rows: outputs) }
      }
    }
    return result
  }
}

/// Where a narrower block's inner lines are in one as wide as the model says.
private struct BlockPlaces {
  private let keys: TransformerKeys
  /// By the path of the layer whose outputs they are.
  private var projections: [String: TensorPlaces.Lines?] = [:]
  private let queries: TensorPlaces.Lines?
  private let channels: TensorPlaces.Lines?

  init(
    _ sizes: BlockSizes, in model: TransformerConfiguration, _ keys: TransformerKeys, name: String
  ) throws {
    let (own, most) = (
      sizes.heads / sizes.keyValueHeads, model.heads / model.keyValueHeads
    )
    guard own <= most else {
      throw PeatError.badData(
        "Block '\(name)' has \(own) heads for each of its \(sizes.keyValueHeads) key/value heads, the whole model at most \(most): no plain checkpoint computes that. Make the emulator again with prune-heads."
      )
    }
    func place(ofQuery head: Int) -> Int { head / own * most + head % own }
    self.keys = keys
    let narrow = model.projectionLines(sizes)
    let whole = model.projectionLines(
      BlockSizes(
        heads: model.heads, keyValueHeads: model.keyValueHeads,
        feedForwardSize: model.feedForwardSize))
    var places: [String: [Int: Int]] = [:]
    var counts: [String: Int] = [:]
    // What mixes tokens is always whole.
    for part in model.tokenMixing == nil ? ProjectionLines.Part.allCases : [] {
      let path = narrow.path(of: part)
      counts[path, default: 0] += whole.heads(of: part) * model.headWidth
      for head in 0..<narrow.heads(of: part) {
        let target = part == .query ? place(ofQuery: head) : head
        for (line, place) in zip(
          narrow.lines(of: part, head: head), whole.lines(of: part, head: target))
        {
          places[path, default: [:]][line] = place
        }
      }
    }
    for (path, lines) in places {
      projections[path] = .some(
        .init(lines.keys.sorted().compactMap { lines[$0] }, of: counts[path] ?? 0))
    }
    queries = .init(
      (0..<sizes.heads).flatMap { head in
        (0..<model.headWidth).map { place(ofQuery: head) * model.headWidth + $0 }
      }, of: model.heads * model.headWidth)
    channels = .init(Array(0..<sizes.feedForwardSize), of: model.feedForwardSize)
  }

  /// Of a linear layer's inputs and outputs.
  func ofLinear(_ path: String) -> (inputs: TensorPlaces.Lines?, outputs: TensorPlaces.Lines?) {
    switch path {
    case keys.attentionOutput: (queries, nil)
    case keys.down: (channels, nil)
    case keys.up, keys.gate: (nil, channels)
    default: (nil, projections[path] ?? nil)
    }
  }
}
