import PeatModels
import PeatTensor

/// Runs a kept block again in the place of each one that is missing, so that the middle is as deep as it was, at no cost in memory: the nearest kept
/// block, of two the later.
///
/// Source: Zhang et al. 2023, *CRaSh: Clustering, Removing, and Sharing*, <https://arxiv.org/abs/2310.15477>.
public struct Sharing: Compression {
  public static let name = "share"
  public static let stage = CompressionStage.sharing

  public init(value: String?) throws {
    if let value { throw PeatError.usage("share takes no value; found 'share=\(value)'.") }
  }

  public func check(_ outline: inout CompressionOutline) throws {
    if outline.isShared { throw PeatError.usage("A recipe names share twice.") }
    outline.isShared = true
  }

  /// Throws where a block's place is in a stack of which none is kept.
  static func check(_ kept: [Int], _ split: ModelSplit, _ keys: TransformerKeys) throws {
    for number in split.middle
    where !kept.contains(where: { keys.isInDecoder($0) == keys.isInDecoder(number) }) {
      throw PeatError.usage(
        "'share' runs a kept block in the place of block \(number), but of the middle's blocks in the \(keys.isInDecoder(number) ? "decoder" : "encoder") none is kept. Keep one: layers=…"
      )
    }
  }

  public func apply(to draft: inout EmulatorDraft) throws {
    let kept = draft.blocks.map(\.numberInFullModel)
    let keys = draft.full.configuration.keys
    try Self.check(kept, draft.split, keys)
    draft.order = draft.split.middle.map { number in
      // A decoder's block computes something else than an encoder's.
      let alike = kept.indices.filter {
        keys.isInDecoder(kept[$0]) == keys.isInDecoder(number)
      }
      return alike.min { left, right in
        (abs(kept[left] - number), -left) < (abs(kept[right] - number), -right)
      } ?? 0
    }
  }
}
