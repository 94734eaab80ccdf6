import PeatTensor

/// A word that keeps so many blocks of the middle: `layer-drop=4`.
protocol CountedSelection: Compression {
  /// How many blocks stay.
  var count: Int { get }

  init(count: Int)
}

extension CountedSelection {
  public static var stage: CompressionStage { .selection }

  public init(value: String?) throws {
    guard let value, let count = Int(value), count > 0 else {
      throw PeatError.usage(
        "\(Self.name) needs the number of middle blocks to keep, at least 1: \(Self.name)=4; found "
          + "'\(Self.name)\(value.map { "=\($0)" } ?? "")'.")
    }
    self.init(count: count)
  }

  public func check(_ outline: inout CompressionOutline) throws {
    guard count <= outline.blocks else {
      throw PeatError.usage(
        "\(Self.name)=\(count) asks for more blocks than the middle has, \(outline.blocks).")
    }
    outline.blocks = count
  }
}
