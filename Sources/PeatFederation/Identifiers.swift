import PeatTensor

/// The name of a client: 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit.
///
/// It names files and log lines, so nothing else is let in. `server` is kept for the coordinator's own part.
public struct ClientID: Sendable, Hashable, Comparable, CustomStringConvertible {
  public let name: String

  /// Throws where `name` breaks the rule above.
  public init(_ name: String) throws {
    try checkIdentifier(name, of: "client")
    self.name = name
  }

  private init(trusted name: String) { self.name = name }

  /// The coordinator's own name when it takes part in the training.
  public static let server = ClientID(trusted: "server")

  public static func < (left: ClientID, right: ClientID) -> Bool {
    left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
  }

  public var description: String { name }
}

/// The name of a run, under the same rule as a client's name.
public struct RunID: Sendable, Hashable, CustomStringConvertible {
  public let name: String

  /// Throws where `name` breaks the rule.
  public init(_ name: String) throws {
    try checkIdentifier(name, of: "run")
    self.name = name
  }

  public var description: String { name }
}

private func checkIdentifier(_ name: String, of kind: String) throws {
  func isWord(_ byte: UInt8) -> Bool {
    (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
  }
  let bytes = name.utf8
  guard (1...64).contains(bytes.count), let first = bytes.first, isWord(first),
    bytes.allSatisfy({ isWord($0) || $0 == 46 || $0 == 95 || $0 == 45 })
  else {
    throw PeatError.badData(
      "'\(name.prefix(80))' can't name a \(kind): use 1 to 64 letters, digits, '.', '_' or '-', "
        + "beginning with a letter or digit.")
  }
}

extension ClientID: ExpressibleByStringLiteral {
  /// A name written in the program itself; a wrong one is a mistake of the program.
  public init(stringLiteral name: String) {
    guard let valid = try? ClientID(name) else { preconditionFailure("ClientID: '\(name)'") }
    self = valid
  }
}

extension RunID: ExpressibleByStringLiteral {
  /// A name written in the program itself; a wrong one is a mistake of the program.
  public init(stringLiteral name: String) {
    guard let valid = try? RunID(name) else { preconditionFailure("RunID: '\(name)'") }
    self = valid
  }
}

extension ClientID: Codable, CodingKeyRepresentable {
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(name)
  }

  public var codingKey: any CodingKey { NameKey(stringValue: name) }
  public init?<Key: CodingKey>(codingKey: Key) { try? self.init(codingKey.stringValue) }
}

extension RunID: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(name)
  }
}

private struct NameKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}
