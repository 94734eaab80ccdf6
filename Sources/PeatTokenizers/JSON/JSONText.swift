import PeatTensor

/// Writing JSON text, where the order of the keys and the bytes of the strings matter.
enum JSONText {
  /// A string in quotes, with the escapes that JSON asks for and no more.
  static func quoted(_ text: ByteString) -> String {
    var result = "\""
    for scalar in text.text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..<" ":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  static func quoted(_ text: String) -> String { quoted(ByteString(text)) }
}
