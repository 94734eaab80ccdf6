import PeatTensor

/// A matrix of a model's linear layers: how large, and how an emulator's file keeps it.
public struct MatrixSize: Sendable, Equatable {
  /// As the checkpoint has it: `model.layers.2.mlp.up_proj.weight`, or a factor's name.
  public let name: String
  public let inputs: Int
  public let outputs: Int

  public var count: Int { inputs * outputs }
}

extension TransformerConfiguration {
  /// The sizes of a stored block's linear layers, as narrow as it is, in the order of the computation.
  public func linearSizes(ofBlock number: Int) -> [(inputs: Int, outputs: Int)] {
    var own = self
    let sizes = sizes(ofBlock: number)
    own.heads = sizes.heads
    own.keyValueHeads = sizes.keyValueHeads
    own.feedForwardSize = sizes.feedForwardSize
    return own.linearSizes(keys.ofBlock(number))
  }

  /// A stored block's matrices; a layer that is kept as two factors has two.
  public func matrices(ofBlock number: Int) -> [MatrixSize] {
    zip(keys.ofBlock(number).linearPaths, linearSizes(ofBlock: number)).flatMap {
      path, size -> [MatrixSize] in
      let name = "\(keys.block(number)).\(path)"
      guard let rank = variation.ranks[name] else {
        return [MatrixSize(name: "\(name).weight", inputs: size.inputs, outputs: size.outputs)]
      }
      return [
        MatrixSize(name: "\(name).low_rank_down", inputs: size.inputs, outputs: rank),
        MatrixSize(name: "\(name).low_rank_up", inputs: rank, outputs: size.outputs),
      ]
    }
  }

  /// Values of a stored block's norms and biases.
  public func vectorWeights(ofBlock number: Int) -> Int {
    let keys = keys.ofBlock(number)
    let biases = zip(linearSizes(ofBlock: number), linearBiases(keys)).reduce(0) {
      $0 + ($1.1 ? $1.0.outputs : 0)
    }
    return blockNorms(keys).reduce(biases) { $0 + normWeights(width: $1.width) }
  }

  /// Values of a norm over so many.
  func normWeights(width: Int) -> Int {
    switch norm {
    case .rms: width
    case .layer: 2 * width
    }
  }
}

extension Checkpoint {
  /// The matrices that stay packed in memory as an emulator's file keeps them, by name.
  public var packedStorages: [String: WeightStorage] { Self.packedStorages(of: emulatorJSON) }

  static func packedStorages(of emulatorJSON: JSONValue?) -> [String: WeightStorage] {
    guard let table = emulatorJSON?["storage"]?.object else { return [:] }
    return table.compactMapValues { entry in
      guard entry["axis"]?.integer != nil, let type = entry["type"]?.string else { return nil }
      switch type {
      case StorageType.bfloat16.rawValue: return .bfloat16
      case StorageType.float16.rawValue: return .float16
      default: return WeightStorage(rawValue: type)
      }
    }
  }
}

extension TransformerModel {
  /// The matrices that are kept packed, by name.
  public var packedStorages: [String: WeightStorage] {
    Dictionary(
      uniqueKeysWithValues: parameters.compactMap { parameter in
        parameter.packed.map { (parameter.name, $0.storage) }
      })
  }
}
