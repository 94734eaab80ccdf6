import PeatModels
import PeatTensor

/// Keeps the largest ⌈F · min(rows, columns)⌉ singular values of each matrix of the middle, as two factors where those are smaller than the
/// matrix, and as their product where they are not: `low-rank=0.5`.
///
/// The nearest matrix of its rank in the Frobenius norm (Eckart and Young 1936, <https://doi.org/10.1007/BF02288367>).
public struct LowRank: ShareWord {
  public static let name = "low-rank"
  public static let stage = CompressionStage.rank
  static let kept = "singular values"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.isFactored }

  public let share: Double

  public func apply(to draft: inout EmulatorDraft) throws {
    for index in draft.blocks.indices {
      try draft.tell(Self.name, index, of: draft.blocks.count)
      for path in draft.full.configuration.keys.allLinearPaths {
        guard let matrix = draft.outputsByInputs(path, ofBlock: index) else { continue }
        let values = try SingularValues(of: matrix, named: "\(path).weight")
        draft.keep(
          values.factors(of: Array(0..<count(of: values.values.count))), as: path, ofBlock: index)
      }
    }
  }
}

/// Like `low-rank`, but what counts is what comes out on a text, not the weights: `weighted-low-rank=0.5`.
///
/// With Σ x · xᵀ = L · Lᵀ of what goes into W, the largest singular values of W · L are kept, W′ = (W · L)_r · L⁻¹: of all matrices of the rank the one
/// whose outputs on the text are nearest.
///
/// Source: Wang et al. 2024, *SVD-LLM*, <https://arxiv.org/abs/2403.07378>.
public struct WeightedLowRank: ShareWord {
  public static let name = "weighted-low-rank"
  public static let stage = CompressionStage.rank
  static let kept = "singular values"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.isFactored }

  public let share: Double

  init(share: Double) { self.share = share }

  public var needsCalibration: Bool { true }

  public func apply(to draft: inout EmulatorDraft) throws {
    let calibration = try draft.calibrated(for: Self.name)
    let split = draft.split
    var states = calibration.states(of: draft.full, behind: split.bottom)
    var reached = split.bottom
    let model = try draft.model()
    for index in draft.blocks.indices {
      try draft.tell(Self.name, index, of: draft.blocks.count)
      let local = split.bottom + index
      let number = draft.blocks[index].numberInFullModel
      if number > reached {
        states = calibration.run(draft.full, through: reached..<number, from: states).states
        reached = number
      }
      let linears = model.blocks[local].linears
      guard let place = model.configuration.order.firstIndex(of: local) else { continue }
      let seen = calibration.run(
        model, through: place..<place + 1, from: states,
        watching: Set(linears.map(\.weight.name))
      ).seen
      for linear in linears {
        let path = String(
          linear.name.dropFirst(model.configuration.keys.block(local).count + 1))
        guard let matrix = draft.outputsByInputs(path, ofBlock: index),
          let inputs = seen[linear.weight.name]?.inputs
        else { continue }
        let factors = try WeightedLowRank.factors(
          of: matrix, inputs: inputs, named: linear.weight.name,
          rank: count(of: matrix.shape.min() ?? 0))
        draft.keep(factors, as: path, ofBlock: index)
      }
    }
  }
}

extension WeightedLowRank {
  /// Two factors of a matrix `[outputs, inputs]` whose product's outputs are nearest.
  ///
  /// - Parameter inputs: Σ x · xᵀ.
  package static func factors(
    of matrix: Tensor, inputs: Tensor, named name: String, rank: Int
  ) throws -> (left: Tensor, right: Tensor) {
    let root = try CholeskyFactor(of: inputs, damping: 1e-4, named: name)
    let values = try SingularValues(of: matrixProduct(matrix, root.lower), named: name)
    let factors = values.factors(of: Array(0..<rank))
    return (factors.left, root.dividing(factors.right))
  }
}

extension EmulatorDraft {
  /// A linear layer's matrix as `[outputs, inputs]`, however the checkpoint keeps it; `nil` where it is none any more.
  func outputsByInputs(_ path: String, ofBlock index: Int) -> Tensor? {
    guard let matrix = blocks[index].tensors["\(path).weight"] else { return nil }
    return full.configuration.layout == .outputsByInputs ? matrix : matrix.transposed()
  }

  /// Puts a product, `[outputs, r]` and `[r, inputs]`, in a matrix's place: as two factors where those are smaller.
  mutating func keep(_ factors: (left: Tensor, right: Tensor), as path: String, ofBlock index: Int)
  {
    let name = "\(path).weight"
    let whole = blocks[index].tensors[name]?.count ?? 0
    let isTransposed = full.configuration.layout == .inputsByOutputs
    guard factors.left.count + factors.right.count < whole else {
      let product = matrixProduct(factors.left, factors.right)
      blocks[index].tensors[name] = isTransposed ? product.transposed() : product
      return
    }
    blocks[index].tensors[name] = nil
    blocks[index].tensors["\(path).low_rank_up"] =
      isTransposed ? factors.left.transposed() : factors.left
    blocks[index].tensors["\(path).low_rank_down"] =
      isTransposed ? factors.right.transposed() : factors.right
    blocks[index].ranks[path] = factors.left.shape[1]
  }
}
