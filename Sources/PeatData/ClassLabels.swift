import PeatTensor

/// Names of classes, of which no two are equal and none is taken for another.
public enum ClassLabels {
  /// Each of some names once, in order.
  ///
  /// - Throws: `badData` where two names differ only in how their letters are composed, as `é` may be one character or two: they would be two classes that
  /// nobody can tell apart.
  public static func sorted(_ names: some Sequence<String>) throws -> [String] {
    // Strings are equal here that are so canonically; their bytes may differ.
    var known: [String: String] = [:]
    for name in names {
      guard let other = known.updateValue(name, forKey: name) else { continue }
      if !other.utf8.elementsEqual(name.utf8) {
        let (first, second) = (characters(other), characters(name))
        throw PeatError.badData(
          "The class '\(name)' is written in two ways that look the same: \(min(first, second)) and \(max(first, second)). Write it in one way, for example after Unicode's normal form C."
        )
      }
    }
    return known.keys.sorted()
  }

  private static func characters(_ name: String) -> String {
    name.unicodeScalars.prefix(40).map { scalar in
      let digits = String(scalar.value, radix: 16, uppercase: true)
      return "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }.joined(separator: " ")
  }
}
