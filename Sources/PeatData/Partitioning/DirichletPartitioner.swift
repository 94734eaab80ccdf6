import Foundation
import PeatTensor

/// Divides each label's documents among clients in proportions drawn from a Dirichlet distribution.
///
/// A small `alpha` gives each client few labels, a large one gives all clients the same mix. A client that would get nothing
/// receives one document of the client that has most.
///
/// Source: Hsu, Qi, Brown 2019, <https://arxiv.org/abs/1909.06335>.
public struct DirichletPartitioner: Partitioner {
  /// The field that holds the label.
  public let field: String
  /// The concentration of the distribution, from 1e-6 to 1e9.
  public let alpha: Double
  public let seed: UInt64

  public init(field: String, alpha: Double, seed: UInt64) {
    self.field = field
    self.alpha = alpha
    self.seed = seed
  }

  public func partition(_ documents: [Document], clients: Int) throws -> [[Int]] {
    // What has no labels can't be divided by them, however much of it there is.
    let groups = try DocumentReader.groups(of: documents, by: field)
    try checkThereIsEnough(documents, clients: clients)
    guard (1e-6...1e9).contains(alpha) else {
      throw PeatError.usage(
        "Dirichlet partition: alpha is \(alpha), a number from 0.000001 to 1e9 is expected.")
    }
    var random = SeededRandom(seed: seed, "Dirichlet partition")
    var numbers: [String: [Int]] = [:]
    for (number, document) in documents.enumerated() {
      numbers[document.fields[field] ?? "", default: []].append(number)
    }
    var parts = Array(repeating: [Int](), count: clients)
    for label in groups.map(\.name).sorted() {
      let members = random.shuffled(numbers[label] ?? [])
      let shares = random.dirichlet(alpha: alpha, count: clients)
      for (client, piece) in members.cut(by: shares).enumerated() { parts[client] += piece }
    }
    return parts.givingEachOne().map { $0.sorted() }
  }
}

extension SeededRandom {
  /// The logarithm of a number drawn from the gamma distribution with this shape and scale 1.
  ///
  /// In logarithms, since a small shape gives numbers that no Double can hold.
  ///
  /// Source: Marsaglia and Tsang 2000, <https://doi.org/10.1145/358407.358414>.
  package mutating func logGamma(shape: Double) -> Double {
    precondition(shape > 0, "logGamma(shape:) needs a shape above 0, not \(shape)")
    if shape < 1 {
      // Gamma(a) = Gamma(a + 1) · U^(1/a), their section 6.
      return logGamma(shape: shape + 1) + log(openUniform()) / shape
    }
    let d = shape - 1 / 3.0
    let c = 1 / (9 * d).squareRoot()
    while true {
      let x = Double(normal())
      let v = (1 + c * x) * (1 + c * x) * (1 + c * x)
      if v <= 0 { continue }
      if log(openUniform()) < 0.5 * x * x + d - d * v + d * log(v) { return log(d * v) }
    }
  }

  /// Proportions that sum to 1, drawn from the symmetric Dirichlet distribution.
  package mutating func dirichlet(alpha: Double, count: Int) -> [Double] {
    var logs: [Double] = []
    for _ in 0..<count { logs.append(logGamma(shape: alpha)) }
    let largest = logs.max() ?? 0
    let weights = logs.map { exp($0 - largest) }
    let sum = weights.reduce(0, +)
    return weights.map { $0 / sum }
  }

  /// A number in (0, 1].
  private mutating func openUniform() -> Double { 1 - Double(next() >> 11) * 0x1p-53 }
}
