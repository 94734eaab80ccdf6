import PeatTensor

/// The mean of the clients' adapters, each weighted by its number of examples.
///
/// `next = Σ nₖ·wₖ / Σ nₖ`, summed in float64 and rounded to float32 once.
///
/// `wₖ` the adapter of client `k`, `nₖ` its example count.
///
/// Source: McMahan et al. 2017, Algorithm 1, <https://arxiv.org/abs/1602.05629>.
public struct FedAvg: AggregationStrategy {
  public static let name = "fedavg"

  public init() {}

  public func makeAccumulator() -> any UpdateAccumulator { WeightedSum() }
}

extension AggregationStrategy where Self == FedAvg {
  public static var fedAvg: FedAvg { FedAvg() }
}

/// Sums of `weight · value` in float64, and of the weights.
private struct WeightedSum: UpdateAccumulator {
  private var sums: [String: (shape: [Int], values: [Double])] = [:]
  private var weight = 0.0

  mutating func add(_ update: ClientUpdate) throws {
    guard update.exampleCount > 0 else {
      throw PeatError.badData(
        "FedAvg weighs by examples: the update of '\(update.client)' has \(update.exampleCount).")
    }
    if weight == 0 {
      sums = update.tensors.mapValues { ($0.shape, Array(repeating: 0, count: $0.count)) }
    }
    guard sums.count == update.tensors.count,
      sums.allSatisfy({ update.tensors[$0.key]?.shape == $0.value.shape })
    else {
      throw PeatError.badData(
        "The update of '\(update.client)' has other tensors or shapes than those before it. "
          + "Aggregate updates of one and the same adapter.")
    }
    let share = Double(update.exampleCount)
    for (name, tensor) in update.tensors {
      guard let index = sums.index(forKey: name) else { continue }
      tensor.withUnsafeBufferPointer { source in
        sums.values[index].values.withUnsafeMutableBufferPointer { target in
          for i in source.indices { target[i] += share * Double(source[i]) }
        }
      }
    }
    weight += share
  }

  func finish(into current: NamedTensors) throws -> NamedTensors {
    guard weight > 0 else {
      throw PeatError.badData("FedAvg: there is no update to average.")
    }
    guard current.count == sums.count,
      sums.allSatisfy({ current[$0.key]?.shape == $0.value.shape })
    else {
      throw PeatError.badData(
        "The updates have other tensors or shapes than the adapter they are to replace.")
    }
    return sums.mapValues { sum in
      Tensor(sum.values.map { Float($0 / weight) }, shape: sum.shape)
    }
  }
}
