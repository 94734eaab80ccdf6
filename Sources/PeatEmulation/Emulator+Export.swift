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
      otherFiles: try source.filesBesideWeights().merging(CheckpointWriter.mark("exported")) { $1 })
    return plain
  }
}

extension TransformerModel {
  /// A model that computes the same and is all that config.json can say: every block is stored as often as it is run, as wide as
  /// any other, with one float32 matrix for each linear layer.
  ///
  /// - Factors are multiplied, packed matrices unpacked.
  /// - Missing heads and channels are zeros: see `TensorPlaces`.
  ///
  /// - Throws: `badData` where a block's heads share keys and values in a way that the whole model's can't.
  public func plain() throws -> TransformerModel {
    var plain = configuration.selecting(blocks: configuration.order)
    plain.variation = .none
    let places = try configuration.tensorPlaces()
    let stored = blocks.enumerated().map { number, block in
      block.plainTensors(number: number, in: configuration, places)
    }
    let keys = plain.keys
    var tensors: NamedTensors = [:]
    for parameter in parameters where !keys.isInBlock(parameter.name) {
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
  /// - Parameters:
  ///   - number: its own, in the names of its weights.
  ///   - model: that it is a block of.
  ///   - places: of what is smaller.
  fileprivate func plainTensors(
    number: Int, in model: TransformerConfiguration, _ places: [String: TensorPlaces]
  ) -> NamedTensors {
    let name = model.keys.block(number)
    var result: NamedTensors = [:]
    func add(_ tensor: Tensor, _ path: String) {
      result[path] = places["\(name).\(path)"]?.spread(tensor) ?? tensor
    }
    for norm in norms { add(norm.tensor, String(norm.name.dropFirst(name.count + 1))) }
    for (path, linear) in zip(model.keys.ofBlock(number).linearPaths, linears) {
      add(linear.wholeMatrix, "\(path).weight")
      if let bias = linear.bias?.tensor { add(bias, "\(path).bias") }
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

extension JSONValue {
  /// config.json of float32 weights: transformers rounds them to the type that is stated.
  fileprivate func statingFloat32() -> JSONValue {
    guard case .object(var table) = self else { return self }
    for key in ["dtype", "torch_dtype"] where table[key] != nil { table[key] = .string("float32") }
    return .object(table)
  }
}
