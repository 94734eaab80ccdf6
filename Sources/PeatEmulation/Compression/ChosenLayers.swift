import PeatTensor

/// Keeps the blocks that are named, by their numbers in the middle from 0: `layers=0:2:5`.
public struct ChosenLayers: Compression {
  public static let name = "layers"
  public static let stage = CompressionStage.selection

  /// In rising order.
  public let numbers: [Int]

  public init(value: String?) throws {
    let parts = value?.split(separator: ":", omittingEmptySubsequences: false) ?? []
    let numbers = parts.compactMap { Int($0) }
    guard !parts.isEmpty, numbers.count == parts.count, numbers.allSatisfy({ $0 >= 0 }),
      zip(numbers, numbers.dropFirst()).allSatisfy({ $0 < $1 })
    else {
      throw PeatError.usage(
        "layers needs numbers of the middle's blocks from 0, in rising order: layers=0:2:5; found 'layers\(value.map { "=\($0)" } ?? "")'."
      )
    }
    self.numbers = numbers
  }

  public func check(_ outline: inout CompressionOutline) throws {
    if let beyond = numbers.first(where: { $0 >= outline.blocks }) {
      throw PeatError.usage(
        "layers names block \(beyond), but the middle has \(outline.blocks) blocks, counted from 0."
      )
    }
    outline.blocks = numbers.count
  }

  public func places(of count: Int) -> [Int]? { numbers }

  public func apply(to draft: inout EmulatorDraft) { draft.keep(numbers) }
}
