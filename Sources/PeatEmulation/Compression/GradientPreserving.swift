import PeatModels
import PeatTensor

/// What an adapter's gradient and the owner's privacy lose when a part δ of a matrix W goes.
///
///     S(δ) = ‖H δ‖₁ − λ · ⟨∂ℓ/∂W, δ⟩,   H δ ≈ E[g · gᵀ] · δ · E[x · xᵀ]
///
/// The first term is how much the gradients of the layer change, to second order; the second how much the loss rises. Parts with the smallest S go. ℓ is the
/// text's loss, g its gradient with respect to the layer's outputs, x the inputs; the Hessian is taken for the Fisher matrix and that for a
/// Kronecker product. Each term is divided by its mean magnitude over the candidates, so that λ has no unit.
///
/// Source: *GradOT: Training-free gradient-preserving offsite-tuning*, <https://arxiv.org/abs/2507.04455>. λ and the share of ranks that always stay are constants of ours.
package enum GradientScore {
  /// λ.
  static let privacyWeight = 0.1
  /// Of the singular values of a matrix, these always stay.
  static let fixedShare = 0.05

  /// ‖H δ‖₁ and ⟨∂ℓ/∂W, δ⟩ of each candidate.
  package struct Terms {
    package var changes: [Double]
    package var losses: [Double]

    mutating func add(_ other: Terms) {
      for place in changes.indices {
        changes[place] += other.changes[place]
        losses[place] += other.losses[place]
      }
    }

    /// S.
    var scores: [Double] {
      func mean(_ values: [Double]) -> Double {
        let sum = values.reduce(0) { $0 + $1.magnitude }
        return sum > 0 ? sum / Double(values.count) : 1
      }
      let (change, loss) = (mean(changes), mean(losses))
      return zip(changes, losses).map { $0 / change - privacyWeight * $1 / loss }
    }
  }

  /// δ_k = −σ_k · u_k · v_kᵀ: ‖H δ_k‖₁ = σ_k · ‖G u_k‖₁ · ‖A v_k‖₁.
  package static func ranks(
    _ values: SingularValues, inputs: Tensor, _ gradients: MatrixStatistics.Gradients
  ) -> Terms {
    let left = matrixProduct(gradients.outputs, values.left).absoluteSums(axis: 1)
    let right = matrixProduct(values.right, inputs).absoluteSums(axis: 0)
    let slopes = matrixProduct(gradients.weight, values.right.transposed())
    let count = values.values.count
    return Terms(
      changes: (0..<count).map { Double(values.values[$0]) * left[$0] * right[$0] },
      losses: (0..<count).map { k in
        (0..<slopes.shape[0]).reduce(0.0) { sum, row in
          sum - Double(values.values[k]) * Double(slopes.pointer[row * count + k])
            * Double(values.left.pointer[row * count + k])
        }
      })
  }

  /// δ_c takes a channel's weights out of a matrix W: its row, or its column where the channels are W's inputs. ‖H δ_c‖₁ = ‖G e_c‖₁ · ‖A w_c‖₁, or
  /// ‖G w_c‖₁ · ‖A e_c‖₁.
  package static func channels(
    _ matrix: Tensor, areInputs: Bool, inputs: Tensor, _ gradients: MatrixStatistics.Gradients
  ) -> Terms {
    let moved =
      areInputs
      ? matrixProduct(gradients.outputs, matrix).absoluteSums(axis: 1)
      : matrixProduct(matrix, inputs).absoluteSums(axis: 0)
    let own = (areInputs ? inputs : gradients.outputs).absoluteSums(axis: 0)
    let columns = matrix.shape[1]
    var losses = Array(repeating: 0.0, count: own.count)
    for place in 0..<matrix.count {
      losses[areInputs ? place % columns : place / columns] -=
        Double(matrix.pointer[place]) * Double(gradients.weight.pointer[place])
    }
    return Terms(changes: zip(moved, own).map(*), losses: losses)
  }
}

/// Keeps of attention's matrices the ⌈F · min(rows, columns)⌉ singular values without which an adapter's gradients would change the most:
/// `gradient-ranks=0.5`. A score as in `GradientScore`, a candidate being −σ_k · u_k · v_kᵀ; feed-forward layers stay as they are.
public struct GradientRanks: ShareWord {
  public static let name = "gradient-ranks"
  public static let stage = CompressionStage.rank
  static let kept = "singular values"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.isFactored }
  static var exclusions: [(isDone: KeyPath<CompressionOutline, Bool>, reason: String)] {
    [(\.hasFewerHeads, "looks at the model's own attention; it can't follow prune-heads")]
  }

  public let share: Double

  init(share: Double) { self.share = share }

  public var needsCalibration: Bool { true }

  public func check(_ model: TransformerConfiguration) throws {
    try requireAttention(model, instead: "Take low-rank or weighted-low-rank.")
  }

  public func apply(to draft: inout EmulatorDraft) throws {
    let calibration = try draft.calibrated(for: Self.name)
    try calibration.descend(draft.full, draft.split, paths: \.attentionPaths) { number, seen in
      try draft.tell(
        Self.name, draft.split.middle.upperBound - 1 - number, of: draft.split.middle.count)
      guard let index = draft.blocks.firstIndex(where: { $0.numberInFullModel == number }) else {
        return
      }
      let keys = draft.full.configuration.keys.ofBlock(number)
      for path in keys.attentionPaths {
        let name = "\(keys.block(number)).\(path).weight"
        guard let matrix = draft.outputsByInputs(path, ofBlock: index), let sums = seen[name],
          let gradients = sums.gradients
        else { continue }
        let values = try SingularValues(of: matrix, named: name)
        let count = values.values.count
        var scores = GradientScore.ranks(values, inputs: sums.inputs, gradients).scores
        let fixed = ceiling(GradientScore.fixedShare, of: count)
        for k in 0..<min(fixed, count) { scores[k] = .infinity }
        draft.keep(values.factors(of: largest(scores)), as: path, ofBlock: index)
      }
    }
  }
}

/// Keeps the ⌈F⌉ of each feed-forward layer's channels without which an adapter's gradients would change the most: `gradient-channels=0.5`. A score as in
/// `GradientScore`, summed over the matrices that lead into the channel and out of it.
public struct GradientChannels: ShareWord {
  public static let name = "gradient-channels"
  public static let stage = CompressionStage.width
  static let kept = "channels"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.hasFewerChannels }

  public let share: Double

  init(share: Double) { self.share = share }

  public var needsCalibration: Bool { true }

  public func apply(to draft: inout EmulatorDraft) throws {
    let calibration = try draft.calibrated(for: Self.name)
    try calibration.descend(draft.full, draft.split, paths: \.feedForwardPaths) { number, seen in
      try draft.tell(
        Self.name, draft.split.middle.upperBound - 1 - number, of: draft.split.middle.count)
      guard let index = draft.blocks.firstIndex(where: { $0.numberInFullModel == number }) else {
        return
      }
      let keys = draft.full.configuration.keys.ofBlock(number)
      let count = draft.blocks[index].sizes.feedForwardSize
      let none = Array(repeating: 0.0, count: count)
      var terms = GradientScore.Terms(changes: none, losses: none)
      for path in keys.feedForwardPaths {
        guard let matrix = draft.outputsByInputs(path, ofBlock: index),
          let sums = seen["\(keys.block(number)).\(path).weight"], let gradients = sums.gradients
        else { continue }
        terms.add(
          GradientScore.channels(
            matrix, areInputs: path == keys.down, inputs: sums.inputs, gradients))
      }
      draft.keepChannels(largest(terms.scores), ofBlock: index)
    }
  }
}

extension Tensor {
  /// Σ |value| of each row (axis 0) or column (axis 1).
  fileprivate func absoluteSums(axis: Int) -> [Double] {
    let (rows, columns) = (shape[0], shape[1])
    var sums = Array(repeating: 0.0, count: axis == 0 ? rows : columns)
    for row in 0..<rows {
      for column in 0..<columns {
        sums[axis == 0 ? row : column] += Double(pointer[row * columns + column].magnitude)
      }
    }
    return sums
  }
}
