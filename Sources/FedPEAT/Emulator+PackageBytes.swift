import Foundation

extension Emulator {
  /// What its folder takes, in bytes, without writing it: weights as they are stored there, the header that names them, and the files beside them.
  func packageBytes(source: Checkpoint, full: TransformerModel) throws -> Int {
    let facts = try facts(source: source, full: full)
    let weights = model.parameters.reduce(0) { sum, parameter in
      // A name, a type, a shape and two places in the file.
      sum + Self.bytes(of: parameter, facts.storage[parameter.name]) + parameter.name.utf8.count
        + 70
    }
    let files = try source.tokenizerFiles().values.reduce(0) { $0 + $1.count }
    let configuration = try JSONFile.encode(source.configurationJSON).count
    return weights + files + configuration + (try JSONFile.encode(facts).count)
  }

  private static func bytes(of parameter: Parameter, _ storage: EmulatorFacts.Storage?) -> Int {
    if let packed = parameter.packed, storage?.type != StorageType.bfloat16.rawValue,
      storage?.type != StorageType.float16.rawValue
    {
      let parts = storage?.shape == nil ? packed.stored : packed.storedSparsely ?? packed.stored
      return parts.values.reduce(0) { $0 + $1.bytes.count }
    }
    let bytesPerValue = storage?.type == StorageType.float32.rawValue || storage == nil ? 4 : 2
    // Of a sparse matrix what is not zero, and a bit for each place.
    guard storage?.shape != nil else { return bytesPerValue * parameter.count }
    let values = parameter.tensor.withUnsafeBufferPointer { $0.count { $0 != 0 } }
    return bytesPerValue * values + (parameter.count + 7) / 8
  }
}
