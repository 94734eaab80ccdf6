/// How an adapter's file names some of the layers: by the end of their names, by the whole name behind a `^`, or by a regular expression of such an end.
///
/// As PEFT reads it: `re.match(rf"(.*\.)?({pattern})$", name)`.
package enum LayerPattern {
  /// Whether a name ends in another, or is it.
  package static func isEnd(_ end: String, of name: String) -> Bool {
    name == end || name.hasSuffix(".\(end)")
  }

  /// Whether a pattern means a layer, by its name without PEFT's prefix.
  package static func matches(_ pattern: String, _ name: String) -> Bool {
    if isEnd(pattern, of: name) || "^\(name)" == pattern { return true }
    return !isPlainName(pattern) && (try? expression(pattern))?.matches(name) == true
  }

  /// Throws `usage` where a pattern is no regular expression.
  package static func check(_ pattern: String, of key: String) throws {
    guard !isPlainName(pattern) else { return }
    do { _ = try expression(pattern) } catch {
      throw PeatError.usage(
        "\(key) has '\(pattern.prefix(60))', which is neither a layer's name, such as 'layers.0.self_attn.q_proj', nor a "
          + "regular expression that can be read: \(error.reason).")
    }
  }

  /// The value of the first pattern, in alphabetical order, that means a layer: PEFT sorts the keys of its files.
  package static func value<Value>(
    in patterns: [String: Value], forLayer name: String
  ) -> Value? {
    patterns.keys.sorted().first { matches($0, name) }.flatMap { patterns[$0] }
  }

  private static func expression(
    _ pattern: String
  ) throws(LayerExpression.Problem) -> LayerExpression {
    try LayerExpression("(.*\\.)?(\(pattern))")
  }

  /// Whether a text is a name, and no regular expression.
  package static func isPlainName(_ pattern: String) -> Bool {
    pattern.drop(while: { $0 == "^" }).allSatisfy {
      $0.isLetter || $0.isNumber || "._-".contains($0)
    }
  }
}
