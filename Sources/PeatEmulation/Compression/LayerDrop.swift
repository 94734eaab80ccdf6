import PeatTensor

/// Keeps blocks at even distances, the first and the last among them, and drops the others.
///
/// Of `M` blocks and `n` to keep, block i of the kept is number `round(i · (M − 1) / (n − 1))`, halves to the even
/// neighbour, in exact integer arithmetic; a single one is the middle one, `⌊(M − 1) / 2⌋`.
///
/// Source: uniform layer drop of Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>.
public struct LayerDrop: CountedSelection {
  public static let name = "layer-drop"

  /// How many blocks stay.
  public let count: Int

  public init(count: Int) { self.count = count }

  public func apply(to draft: inout EmulatorDraft) {
    draft.keep(LayerDrop.positions(keeping: count, of: draft.blocks.count))
  }

  public func places(of total: Int) -> [Int]? { LayerDrop.positions(keeping: count, of: total) }

  /// Positions 0..<M of the kept blocks.
  public static func positions(keeping count: Int, of total: Int) -> [Int] {
    precondition(count > 0 && count <= total, "keeping \(count) of \(total)")
    if count == 1 { return [(total - 1) / 2] }
    return (0..<count).map { i in
      let (whole, rest) = (i * (total - 1)).quotientAndRemainder(dividingBy: count - 1)
      let twice = 2 * rest
      if twice == count - 1 { return whole + whole % 2 }
      return twice > count - 1 ? whole + 1 : whole
    }
  }
}
