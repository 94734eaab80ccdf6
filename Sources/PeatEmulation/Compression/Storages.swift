import PeatTensor

/// Keeps the middle's matrices in fewer bits, on disk, on the wire and in memory. `Emulator.pack(_:)` does it, at the very end.
protocol StorageWord: Compression {
  static var storage: WeightStorage { get }
  /// Whether integers are chosen so that what rounding changes on a text is made good.
  var isCompensated: Bool { get }
}

extension StorageWord {
  public static var name: String { storage.rawValue }
  public static var stage: CompressionStage { .storage }

  public func check(_ outline: inout CompressionOutline) {}

  public func apply(to draft: inout EmulatorDraft) {}
}

/// Integers, each 32 along the input dimension with a scale of 16 bits; rounded to the nearest (`int4`), or so that the errors of rounding make each other
/// good on a text (`int4=gptq`): see `PackedMatrix.init(_:as:axis:products:named:)`.
protocol IntegerStorage: StorageWord {
  init(isCompensated: Bool)
}

extension IntegerStorage {
  public var needsCalibration: Bool { isCompensated }

  public init(value: String?) throws {
    guard value == nil || value == "gptq" else {
      throw PeatError.usage(
        "\(Self.name) takes no value but gptq, \(Self.name)=gptq, which makes good on a text what rounding changes; found '\(Self.name)=\(value ?? "")'."
      )
    }
    self.init(isCompensated: value != nil)
  }
}

/// 8-bit integers with their scales: 8.5 bits per weight.
public struct Int8Storage: IntegerStorage {
  static let storage = WeightStorage.int8
  let isCompensated: Bool
}

/// 4-bit integers with their scales: 4.5 bits per weight.
public struct Int4Storage: IntegerStorage {
  static let storage = WeightStorage.int4
  let isCompensated: Bool
}

/// Numbers of 16 bits.
protocol ShortStorage: StorageWord {
  init()
}

extension ShortStorage {
  var isCompensated: Bool { false }

  public init(value: String?) throws {
    if let value {
      throw PeatError.usage("\(Self.name) takes no value; found '\(Self.name)=\(value)'.")
    }
    self.init()
  }
}

/// bfloat16.
public struct BFloat16Storage: ShortStorage {
  static let storage = WeightStorage.bfloat16
}

/// IEEE half precision.
public struct Float16Storage: ShortStorage {
  static let storage = WeightStorage.float16
}
