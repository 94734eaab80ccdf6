import Foundation

/// One layer's LoRA updates of several clients, aggregated to the best pair of a rank: in factors, or by way of the matrix itself.
public enum AggregationBenchmark {
  /// How the mean of the products is factored.
  public enum Way: String, Sendable, Codable, CaseIterable {
    /// As the strategy `product` does.
    case factors
    /// Adds the products to one matrix and takes its singular values.
    case dense
  }

  public struct Report: Sendable, Codable, Equatable {
    public var way: Way
    public var seconds: Double
    /// Of the process, the updates included.
    public var peakMemoryBytes: Int
    /// By how much it grew over the updates, and the little that a process takes.
    public var addedMemoryBytes: Int
    /// The Frobenius norm of what was made, to see that both ways make the same.
    public var norm: Double
  }

  /// Measures in this process, which does nothing else.
  ///
  /// - Parameters:
  ///   - width: inputs and outputs of the layer.
  ///   - rank: of each client's pair, and of what is made; that has at most the rank of the layer.
  public static func run(
    _ way: Way, width: Int, clients: Int, rank: Int, seed: UInt64
  ) throws -> Report {
    var random = SeededRandom(seed: seed, "updates to aggregate")
    let layer = "layer"
    func pair() -> NamedTensors {
      [
        layer + LowRankNames.down: .uniform([rank, width], bound: 0.02, using: &random),
        layer + LowRankNames.up: .uniform([width, rank], bound: 0.02, using: &random),
      ]
    }
    let current = pair()
    let updates = (0..<clients).map { _ in ClientUpdate(pair(), exampleCount: 1) }
    ProcessMeasurement.releaseFreeMemory()
    let before = ProcessMeasurement.peakMemoryBytes
    let start = ContinuousClock.now
    let result: LowRankFactors
    switch way {
    case .factors:
      let next = try ProductFactors().aggregate(updates, into: current).state
      guard let pair = next.pair(of: layer) else {
        throw PeatError(.internalError, "No pair was made.")
      }
      result = pair
    case .dense:
      var sum = Tensor(zeros: [width, width])
      for update in updates {
        guard let pair = update.tensors.pair(of: layer) else { continue }
        sum = mergingLowRank(
          sum, down: pair.down, up: pair.up, scale: 1 / Float(clients), layout: .outputsByInputs)
      }
      let (up, down) = try SingularValues(of: sum, named: layer).factors(
        of: Array(0..<min(rank, width)))
      result = LowRankFactors(down: down, up: up)
    }
    let seconds = (ContinuousClock.now - start).seconds
    var made = FactorSum(rows: width, columns: width)
    try made.add(1, result)
    let peak = ProcessMeasurement.peakMemoryBytes
    return Report(
      way: way, seconds: seconds, peakMemoryBytes: peak, addedMemoryBytes: max(peak - before, 0),
      norm: made.norm)
  }
}
