import PeatTensor

/// The mean of the clients' adapters, each weighted by its number of examples.
///
/// `next = Σ nₖ·wₖ / Σ nₖ`, summed in float64 and rounded to float32 once.
///
/// `wₖ` the adapter of client `k`, `nₖ` its example count. Of low-rank pairs each matrix is averaged by itself, which is inexact: the product of
/// the means is not the mean of the products. How far it is off is reported with each round.
///
/// Source: McMahan et al. 2017, Algorithm 1, <https://arxiv.org/abs/1602.05629>.
public struct FedAvg: AggregationStrategy, MeanRule {
  public static let name = "fedavg"

  public init() {}

  public var name: String { Self.name }
  public var summary: String { "weighted mean of each tensor; of LoRA's matrices inexact" }

  package var makesProducts: Bool { false }
  package var averagesPairs: Bool { true }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) -> any UpdateAccumulator {
    SumAccumulator(makeSums(current, round), rule: self)
  }

  package func next(_ target: RoundTarget) -> NamedTensors { target.means }
}

extension AggregationStrategy where Self == FedAvg {
  public static var fedAvg: FedAvg { FedAvg() }
}
