/// Two texts that are looked at together, such as a premise and a hypothesis.
public struct TextPair: Sendable, Equatable {
  public let first: String
  public let second: String

  public init(_ first: String, _ second: String) {
    self.first = first
    self.second = second
  }

  /// The keys under which records carry a pair, as GLUE and its like have them: the first text's and the second's.
  static let keys = [
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"),
    ("question1", "question2"), ("question", "sentence"),
  ]

  /// The keys of the pair that a record holds; `nil` where it holds none.
  ///
  /// - Parameter has: whether the record has a key.
  static func keys(_ has: (String) -> Bool) -> (first: String, second: String)? {
    keys.first { has($0.0) && has($0.1) }.map { ($0.0, $0.1) }
  }

  /// For messages.
  static var keyNames: String { keys.map { "'\($0.0)' and '\($0.1)'" }.joined(separator: ", ") }
}
