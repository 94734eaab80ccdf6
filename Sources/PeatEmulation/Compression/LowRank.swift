import PeatModels
import PeatTensor

/// Keeps the largest ⌈F · min(rows, columns)⌉ singular values of each matrix of the middle, as two factors where those are smaller than the
/// matrix, and as their product where they are not: `low-rank=0.5`.
///
/// The nearest matrix of its rank in the Frobenius norm (Eckart and Young 1936, <https://doi.org/10.1007/BF02288367>).
public struct LowRank: Compression {
  public static let name = "low-rank"
  public static let stage = CompressionStage.rank

  /// F.
  public let share: Double

  public init(value: String?) throws {
    guard let value, let share = Double(value), share > 0, share <= 1 else {
      throw PeatError.usage(
        "low-rank needs the share of singular values to keep, above 0 and at most 1, as a matrix has no more: low-rank=0.5; found 'low-rank\(value.map { "=\($0)" } ?? "")'."
      )
    }
    self.share = share
  }

  public func check(_ outline: inout CompressionOutline) throws {
    if outline.isFactored {
      throw PeatError.usage("A recipe cuts ranks twice; name one of the words.")
    }
    outline.isFactored = true
  }

  public func apply(to draft: inout EmulatorDraft) throws {
    for index in draft.blocks.indices {
      for path in draft.full.configuration.keys.linearPaths {
        let name = "\(path).weight"
        guard let matrix = draft.blocks[index].tensors[name] else { continue }
        let values = try SingularValues(of: matrix, named: name)
        let rank = Int((share * Double(values.values.count)).rounded(.up))
        draft.blocks[index].keep(
          values.factors(rank: rank), of: path, layout: draft.full.configuration.layout)
      }
    }
  }
}

extension EmulatorDraft.Block {
  /// Puts a product in a matrix's place: as two factors where that is smaller.
  mutating func keep(
    _ factors: (left: Tensor, right: Tensor), of path: String, layout: WeightLayout
  ) {
    let name = "\(path).weight"
    let whole = tensors[name]?.count ?? 0
    guard factors.left.count + factors.right.count < whole else {
      tensors[name] = matrixProduct(factors.left, factors.right)
      return
    }
    tensors[name] = nil
    // W is [outputs, inputs] = up · down, or [inputs, outputs] = down · up.
    let (up, down) =
      layout == .outputsByInputs
      ? (factors.left, factors.right) : (factors.right, factors.left)
    tensors["\(path).low_rank_up"] = up
    tensors["\(path).low_rank_down"] = down
    ranks[path] = factors.left.shape[1]
  }
}
