import PeatTensor

/// The median of each value; of an even number of updates the mean of the two in the middle. Less than half of the clients can't move a value beyond those of the
/// others.
///
/// Of low-rank pairs it is taken of the values of A and B, not of the product's. That is inexact as FedAvg's mean of them is, and stands on the same ground: within a round
/// all begin with the same A and B. A value that less than half of the devices train stays as it is.
///
/// Source: Yin et al. 2018, <https://arxiv.org/abs/1803.01498>.
public struct CoordinateMedian: AggregationStrategy, RobustRule {
  public init() {}

  public var name: String { "median" }
  public var summary: String { "the median of each value, whatever the numbers of examples" }

  public func caution(updates: Int) -> String? {
    guard updates < 3 else { return nil }
    return
      "Of \(updates) \(updates == 1 ? "update" : "updates") the median is the mean: it bears a wrong one from 3 on."
  }

  func combine(
    _ stack: UpdateStack, from current: NamedTensors
  ) throws -> (tensors: NamedTensors, notes: [String: Double]) {
    let middle = stack.count / 2
    let isOdd = stack.count % 2 == 1
    return (
      try stack.combined {
        isOdd ? $0[middle] : Float((Double($0[middle - 1]) + Double($0[middle])) / 2)
      }, [:]
    )
  }
}
