import PeatTensor

/// A way to divide data among clients, by its word: `iid`, `field=speaker`, `dirichlet=0.5:label`, `quantity=0.5`.
public enum PartitionRule: Sendable, Equatable, CustomStringConvertible {
  case iid
  /// Documents with the same value of a field stay together.
  case field(String)
  /// Each label in proportions drawn with this α.
  case dirichlet(alpha: Double, field: String)
  /// Amounts drawn with this β.
  case quantity(beta: Double)

  public static let words = ["iid", "field=NAME", "dirichlet=ALPHA:LABEL", "quantity=BETA"]

  /// Throws `usage` for what is none of `words`.
  public init(_ text: String) throws {
    func wrong() -> PeatError {
      PeatError.usage(
        "'\(text)' is no way to divide data. Expected one of: \(PartitionRule.words.joined(separator: ", "))."
      )
    }
    if text == "iid" {
      self = .iid
      return
    }
    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { throw wrong() }
    let values = parts[1].split(separator: ":", maxSplits: 1).map(String.init)
    switch parts[0] {
    case "field": self = .field(parts[1])
    case "dirichlet":
      guard values.count == 2, let alpha = Double(values[0]) else { throw wrong() }
      self = .dirichlet(alpha: alpha, field: values[1])
    case "quantity":
      guard values.count == 1, let beta = Double(values[0]) else { throw wrong() }
      self = .quantity(beta: beta)
    default: throw wrong()
    }
  }

  public var description: String {
    switch self {
    case .iid: "iid"
    case .field(let name): "field=\(name)"
    case .dirichlet(let alpha, let field): "dirichlet=\(alpha):\(field)"
    case .quantity(let beta): "quantity=\(beta)"
    }
  }

  /// The field whose values a report of the division counts.
  public var field: String? {
    switch self {
    case .field(let name), .dirichlet(_, let name): name
    case .iid, .quantity: nil
    }
  }

  public func partitioner(seed: UInt64) -> any Partitioner {
    switch self {
    case .iid: IIDPartitioner(seed: seed)
    case .field(let name): FieldPartitioner(field: name)
    case .dirichlet(let alpha, let field):
      DirichletPartitioner(field: field, alpha: alpha, seed: seed)
    case .quantity(let beta): QuantityPartitioner(beta: beta, seed: seed)
    }
  }
}
