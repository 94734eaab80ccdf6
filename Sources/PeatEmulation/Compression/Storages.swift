import PeatTensor

/// Keeps the middle's matrices in fewer bits, on disk, on the wire and in memory.
protocol StorageWord: Compression {
  static var storage: WeightStorage { get }
  init()
}

extension StorageWord {
  public static var name: String { storage.rawValue }
  public static var stage: CompressionStage { .storage }

  public init(value: String?) throws {
    if let value {
      throw PeatError.usage("\(Self.name) takes no value; found '\(Self.name)=\(value)'.")
    }
    self.init()
  }

  public func check(_ outline: inout CompressionOutline) {}

  /// `Emulator.pack()` does it, at the very end.
  public func apply(to draft: inout EmulatorDraft) {}
}

/// 8-bit integers, each 32 along the input dimension with a scale of 16 bits: 8.5 bits per weight.
public struct Int8Storage: StorageWord {
  static let storage = WeightStorage.int8
  public init() {}
}

/// 4-bit integers, each 32 along the input dimension with a scale of 16 bits: 4.5 bits per weight.
public struct Int4Storage: StorageWord {
  static let storage = WeightStorage.int4
  public init() {}
}

/// bfloat16.
public struct BFloat16Storage: StorageWord {
  static let storage = WeightStorage.bfloat16
  public init() {}
}

/// IEEE half precision.
public struct Float16Storage: StorageWord {
  static let storage = WeightStorage.float16
  public init() {}
}
