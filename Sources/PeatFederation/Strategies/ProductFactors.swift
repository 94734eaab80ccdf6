import PeatTensor

/// The mean of the clients' products B · A, factored anew: its r largest singular components become the next A and B.
///
/// The mean is summed as factors, `[√w₁·B₁ …]·[√w₁·A₁ …]`, and its singular values are those of a small matrix between two orthogonal ones (QR): no
/// matrix of the layer's size is made. Components come with falling weight, so a device that trains the first few has the best few.
/// Rows of A get the length that LoRA draws them with, 1/√3, and B the singular value: a component of no weight can learn as a new one can.
///
/// What is beyond rank r is lost, or with `keepsRemainder` kept as a second pair that does not train: then the sum is exact.
///
/// Sources: Bai et al. 2024, *FlexLoRA*, <https://arxiv.org/abs/2402.11505>; the factor form as in the HLoRA example of NVFlare.
public struct ProductFactors: AggregationStrategy, MeanRule {
  private let keepsRemainder: Bool

  /// - Parameter keepsRemainder: whether components beyond the rank are kept.
  public init(keepsRemainder: Bool = false) { self.keepsRemainder = keepsRemainder }

  public var name: String { keepsRemainder ? "product-exact" : "product" }
  public var summary: String {
    keepsRemainder
      ? "the mean of LoRA's products, factored anew, what is beyond the rank as a remainder; exact"
      : "the mean of LoRA's products, factored anew and cut to the rank"
  }

  public var keepsFactors: Bool { false }
  public var keepsRemainders: Bool { keepsRemainder }

  /// The length of A's rows: the root mean square of Kaiming's uniform draw.
  private static let rowLength = 1 / 3.0.squareRoot()

  package var makesProducts: Bool { true }
  package var averagesPairs: Bool { false }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) -> any UpdateAccumulator {
    SumAccumulator(makeSums(current, round), rule: self)
  }

  package func next(_ target: RoundTarget) throws -> NamedTensors {
    var next = target.means.withoutRemainders
    for layer in target.current.lowRankLayers { try factor(layer, of: target, into: &next) }
    return next
  }

  private func factor(
    _ layer: String, of target: RoundTarget, into next: inout NamedTensors
  ) throws {
    guard let old = target.current.pair(of: layer) else { return }
    let product = try target.product(layer)
    let parts = try product.singularValues()
    let least = Remainder.leastValue(beside: product)
    let kept = min(old.rank, parts.values.prefix { $0 > least }.count)
    // Components that have no weight keep their A, and begin anew.
    let blank = LowRankFactors(down: old.down, up: Tensor(zeros: old.up.shape))
    next.setPair(
      blank.replacingFirst(with: parts.factors(0..<kept) { _ in Self.rowLength }), of: layer)
    if keepsRemainder {
      Remainder.write(parts, from: kept, above: least, of: layer, to: &next)
    }
  }
}
