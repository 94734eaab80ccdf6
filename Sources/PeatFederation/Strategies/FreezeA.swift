import PeatTensor

/// FFA-LoRA: A of each low-rank pair stays as it was drawn, B alone trains and travels. With one and the same A for all the mean of the B is exact:
/// `Σ wₖ·(Bₖ·A) = (Σ wₖ·Bₖ)·A`.
///
/// Source: Sun, Li, Li and Ding 2024, <https://arxiv.org/abs/2403.12313>.
public struct FreezeA: AggregationStrategy, MeanRule {
  public init() {}

  public var name: String { "ffa" }
  public var summary: String {
    "LoRA's A stays, the weighted mean of B is exact; half of the bytes"
  }
  public var freezesDown: Bool { true }

  package var makesProducts: Bool { false }
  package var averagesPairs: Bool { true }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) -> any UpdateAccumulator {
    SumAccumulator(makeSums(current, round), rule: self)
  }

  package func next(_ target: RoundTarget) -> NamedTensors { target.means }
}
