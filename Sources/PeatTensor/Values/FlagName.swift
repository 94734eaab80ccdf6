/// How keys of run files are written as options of the program.
package enum FlagName {
  /// `--rank-pattern` of `rankPattern`.
  package static func of(key: some StringProtocol) -> String {
    key.reduce(into: "--") { $0 += $1.isUppercase ? "-\($1.lowercased())" : String($1) }
  }

  /// A text that names keys, for those who only have options.
  ///
  /// - Parameter keys: those that are replaced, where they stand as words.
  package static func replacing(_ keys: Set<String>, in text: String) -> String {
    var result = ""
    var word = ""
    for character in text + " " {
      if character.isLetter || character.isNumber {
        word.append(character)
      } else {
        result += keys.contains(word) ? of(key: word) : word
        word = ""
        result.append(character)
      }
    }
    return String(result.dropLast())
  }
}
