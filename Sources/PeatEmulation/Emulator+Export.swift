import Foundation
import PeatModels
import PeatNN
import PeatTensor

extension Emulator {
  /// Writes the emulator as a plain checkpoint folder that transformers loads, with the tokenizer's files.
  ///
  /// - Parameters:
  ///   - folder: where to.
  ///   - source: the emulator's own folder.
  /// - Returns: the model that was written, `model.plain()`.
  public func export(to folder: URL, source: Checkpoint) throws -> TransformerModel {
    let plain = try model.plain()
    let configuration = Architectures.configuration(
      source.configurationJSON, withBlocks: model.configuration.order)
    try CheckpointWriter.write(
      to: folder, tensors: plain.tensors, configuration: configuration.statingFloat32(),
      otherFiles: try source.tokenizerFiles().merging(CheckpointWriter.mark("exported")) { $1 })
    return plain
  }
}

extension TransformerModel {
  /// A model that computes the same and is all that config.json can say: every block is stored as often as it is run, as wide as
  /// any other, with one float32 matrix for each linear layer.
  ///
  /// - Factors are multiplied, packed matrices unpacked.
  /// - Missing heads and channels are zeros. A head whose values are 0 gives 0 whatever it attends to, and the output layer does not
  ///   look at it; a channel of 0 stays 0 in GELU and SwiGLU.
  ///
  /// - Throws: `badData` where a block's heads share keys and values in a way that the whole model's can't.
  public func plain() throws -> TransformerModel {
    var plain = configuration
    plain.variation = .none
    plain.blockCount = configuration.depth
    let stored = try blocks.enumerated().map { number, block in
      try block.plainTensors(number: number, in: plain)
    }
    let keys = plain.keys
    var tensors: NamedTensors = [:]
    for parameter in parameters where !parameter.name.hasPrefix(keys.blocks + ".") {
      tensors[parameter.name] = parameter.tensor
    }
    for (place, number) in configuration.order.enumerated() {
      for (path, tensor) in stored[number] { tensors["\(keys.block(place)).\(path)"] = tensor }
    }
    return try TransformerModel(
      configuration: plain, tensors: tensors, source: "the plain model of an emulator")
  }
}

extension TransformerBlock {
  /// Its weights by their path in it, as large as `model` says.
  ///
  /// - Parameter number: its own, in the names of its weights.
  fileprivate func plainTensors(
    number: Int, in model: TransformerConfiguration
  ) throws -> NamedTensors {
    let name = model.keys.block(number)
    let places = try BlockPlaces(sizes, in: model, name: name)
    var result: NamedTensors = [:]
    for norm in norms { result[String(norm.name.dropFirst(name.count + 1))] = norm.tensor }
    for (path, linear) in zip(model.keys.linearPaths, linears) {
      let (inputs, outputs) = places.ofLinear(path)
      result["\(path).weight"] = linear.wholeMatrix.spread(
        rows: linear.layout == .outputsByInputs ? outputs : inputs,
        columns: linear.layout == .outputsByInputs ? inputs : outputs)
      if let bias = linear.bias?.tensor {
        let spread = bias.reshaped([bias.count, 1]).spread(rows: outputs, columns: nil)
        result["\(path).bias"] = spread.reshaped([spread.count])
      }
    }
    return result
  }
}

extension Linear {
  /// The layer's matrix as one, of float32.
  fileprivate var wholeMatrix: Tensor {
    guard let reduction else { return weight.tensor }
    return layout == .outputsByInputs
      ? matrixProduct(weight.tensor, reduction.tensor)
      : matrixProduct(reduction.tensor, weight.tensor)
  }
}

/// Some lines of a matrix that had `whole` of them, each with its place.
private struct LinePlaces {
  var places: [Int]
  var whole: Int

  /// `nil` where none is missing.
  init?(_ places: [Int], of whole: Int) {
    if places.count == whole { return nil }
    self.places = places
    self.whole = whole
  }
}

/// Where a narrower block's inner lines are in one as wide as the model says.
private struct BlockPlaces {
  private let keys: TransformerKeys
  private let queries: LinePlaces?
  private let keyValues: LinePlaces?
  private let all: LinePlaces?
  private let channels: LinePlaces?

  /// Groups of heads fill the whole block's groups from the first on; so each head finds the keys and values it had.
  init(_ sizes: BlockSizes, in model: TransformerConfiguration, name: String) throws {
    let (own, most) = (
      sizes.heads / sizes.keyValueHeads, model.heads / model.keyValueHeads
    )
    guard own <= most else {
      throw PeatError.badData(
        "Block '\(name)' has \(own) heads for each of its \(sizes.keyValueHeads) key/value heads, the whole model at most \(most): no plain checkpoint computes that. Make the emulator again with prune-heads."
      )
    }
    func lines(_ heads: [Int], from first: Int = 0) -> [Int] {
      heads.flatMap { head in
        (0..<model.headWidth).map { (first + head) * model.headWidth + $0 }
      }
    }
    let queryHeads = (0..<sizes.heads).map { $0 / own * most + $0 % own }
    let valueHeads = Array(0..<sizes.keyValueHeads)
    let (queryLines, valueLines) = (lines(queryHeads), lines(valueHeads))
    let fused =
      queryLines + lines(valueHeads, from: model.heads)
      + lines(valueHeads, from: model.heads + model.keyValueHeads)
    keys = model.keys
    queries = LinePlaces(queryLines, of: model.heads * model.headWidth)
    keyValues = LinePlaces(valueLines, of: model.keyValueHeads * model.headWidth)
    all = LinePlaces(fused, of: (model.heads + 2 * model.keyValueHeads) * model.headWidth)
    channels = LinePlaces(Array(0..<sizes.feedForwardSize), of: model.feedForwardSize)
  }

  /// Of a linear layer's inputs and outputs.
  func ofLinear(_ path: String) -> (inputs: LinePlaces?, outputs: LinePlaces?) {
    switch path {
    case keys.attentionOutput: return (queries, nil)
    case keys.down: return (channels, nil)
    case keys.up, keys.gate: return (nil, channels)
    default: break
    }
    switch keys.projections {
    case .fused: return (nil, all)
    case .separate(let query, _, _): return (nil, path == query ? queries : keyValues)
    }
  }
}

extension Tensor {
  /// A larger matrix with these rows and columns in their places and zeros elsewhere; `nil`: all are there.
  fileprivate func spread(rows: LinePlaces?, columns: LinePlaces?) -> Tensor {
    if rows == nil, columns == nil { return self }
    let (own, width) = (shape[0], shape[1])
    let result = Tensor(zeros: [rows?.whole ?? own, columns?.whole ?? width])
    for row in 0..<own {
      let target = result.pointer + (rows?.places[row] ?? row) * result.shape[1]
      for column in 0..<width {
        target[columns?.places[column] ?? column] = pointer[row * width + column]
      }
    }
    return result
  }
}

extension JSONValue {
  /// config.json of float32 weights: transformers rounds them to the type that is stated.
  fileprivate func statingFloat32() -> JSONValue {
    guard case .object(var table) = self else { return self }
    for key in ["dtype", "torch_dtype"] where table[key] != nil { table[key] = .string("float32") }
    return .object(table)
  }
}
