import PeatTensor

/// A piece of a template: text, or a tag with the signs in it.
struct TemplatePiece: Sendable {
  enum Kind: Sendable {
    case text(String)
    case print, block
  }
  enum Sign: Sendable, Equatable {
    case name(String)
    case string(String)
    case integer(Int)
    case double(Double)
    case symbol(String)
  }
  var kind: Kind
  var signs: [Sign] = []
  var line: Int
}

/// Cuts a template into text and tags, with the white space around tags as transformers has Jinja treat it: `trim_blocks` and
/// `lstrip_blocks` on, "-" and "+" in a tag as Jinja reads them.
struct TemplateLexer {
  private let scalars: [Unicode.Scalar]
  private var index = 0
  private var line = 1

  init(_ source: String) {
    var scalars: [Unicode.Scalar] = []
    // A line break of any kind counts as "\n"; the last one of the template goes.
    for scalar in source.unicodeScalars {
      if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
      scalars.append(scalar)
    }
    scalars = scalars.map { $0 == "\r" ? "\n" : $0 }
    if scalars.last == "\n" { scalars.removeLast() }
    self.scalars = scalars
  }

  mutating func pieces() throws -> [TemplatePiece] {
    var pieces: [TemplatePiece] = []
    var text: [Unicode.Scalar] = []
    // Whether the text so far begins on a line of its own.
    var beginsLine = true
    func flush(_ line: Int) {
      if !text.isEmpty { pieces.append(TemplatePiece(kind: .text(string(text)), line: line)) }
      text = []
    }
    while index < scalars.count {
      guard scalars[index] == "{", let mark = peek(1), ["{", "%", "#"].contains(mark) else {
        text.append(take())
        continue
      }
      let start = line
      index += 2
      let sign = peek(0)
      if sign == "-" {
        while let last = text.last, TemplateText.isSpace(last) { text.removeLast() }
      } else if sign != "+", mark != "{" {
        stripLine(&text, beginsLine)
      }
      if sign == "-" || sign == "+" { index += 1 }
      if mark == "#" {
        flush(start)
        while !isEnd("#"), index < scalars.count { _ = take() }
        beginsLine = try end(mark, start)
        continue
      }
      flush(start)
      let signs = try signs(until: mark, start)
      beginsLine = try end(mark, start)
      if mark == "%", signs == [.name("raw")] {
        text = try raw(start)
        beginsLine = scalars[..<index].last == "\n"
        flush(start)
      } else {
        pieces.append(
          TemplatePiece(kind: mark == "{" ? .print : .block, signs: signs, line: start))
      }
    }
    flush(line)
    return pieces
  }

  private func string(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    String(String.UnicodeScalarView(scalars))
  }

  private func peek(_ offset: Int) -> Unicode.Scalar? {
    index + offset < scalars.count ? scalars[index + offset] : nil
  }

  private mutating func take() -> Unicode.Scalar {
    defer { index += 1 }
    if scalars[index] == "\n" { line += 1 }
    return scalars[index]
  }

  /// Takes white space off the end of a text if nothing else stands on its last line.
  private func stripLine(_ text: inout [Unicode.Scalar], _ beginsLine: Bool) {
    let start = text.lastIndex(of: "\n").map { $0 + 1 } ?? (beginsLine ? 0 : text.count)
    if text[start...].allSatisfy(TemplateText.isSpace) { text.removeSubrange(start...) }
  }

  /// Whether the tag ends here, with or without a sign before its mark.
  private func isEnd(_ mark: Unicode.Scalar) -> Bool {
    let offset = peek(0) == "-" || (peek(0) == "+" && mark != "{") ? 1 : 0
    return peek(offset) == (mark == "{" ? "}" : mark) && peek(offset + 1) == "}"
  }

  /// Goes past the end of a tag and the white space that it takes along; true where a line ends by that.
  private mutating func end(_ mark: Unicode.Scalar, _ start: Int) throws -> Bool {
    guard isEnd(mark) else { throw failure("a tag that begins with {\(mark) does not end", start) }
    let sign = peek(0)
    index += sign == "-" || sign == "+" ? 3 : 2
    if sign == "-" {
      var last: Unicode.Scalar = "}"
      while let next = peek(0), TemplateText.isSpace(next) {
        last = next
        _ = take()
      }
      return last == "\n"
    }
    if mark != "{", sign != "+", peek(0) == "\n" {
      _ = take()
      return true
    }
    return false
  }

  private func failure(_ what: String, _ line: Int) -> PeatError {
    .badData("chat template, line \(line): \(what).")
  }

  /// The text up to `{% endraw %}`.
  private mutating func raw(_ start: Int) throws -> [Unicode.Scalar] {
    var text: [Unicode.Scalar] = []
    while index < scalars.count {
      if scalars[index] == "{", peek(1) == "%" {
        let sign = peek(2)
        var look = self
        look.index += sign == "-" || sign == "+" ? 3 : 2
        if look.takeWord("endraw"), look.isEnd("%") {
          if sign == "-" {
            while let last = text.last, TemplateText.isSpace(last) { text.removeLast() }
          } else if sign != "+" {
            stripLine(&text, false)
          }
          self = look
          _ = try end("%", start)
          return text
        }
      }
      text.append(take())
    }
    throw failure("'raw' has no 'endraw'", start)
  }

  /// Goes past a word and the white space around it.
  private mutating func takeWord(_ word: String) -> Bool {
    while let next = peek(0), TemplateText.isSpace(next) { _ = take() }
    guard scalars[index...].starts(with: word.unicodeScalars) else { return false }
    index += word.unicodeScalars.count
    while let next = peek(0), TemplateText.isSpace(next) { _ = take() }
    return true
  }

  // MARK: Inside of a tag

  private static let symbols = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ":", "|",
    ",", "(", ")", "[", "]", "{", "}",
  ].map { Array($0.unicodeScalars) }

  private mutating func signs(until mark: Unicode.Scalar, _ start: Int) throws
    -> [TemplatePiece.Sign]
  {
    var signs: [TemplatePiece.Sign] = []
    var open = 0
    while let scalar = peek(0) {
      if open == 0, isEnd(mark) { return signs }
      if TemplateText.isSpace(scalar) {
        _ = take()
      } else if scalar == "_" || scalar.properties.isXIDStart {
        let begin = index
        while let next = peek(0), next == "_" || next.properties.isXIDContinue { _ = take() }
        signs.append(.name(string(scalars[begin..<index])))
      } else if ("0"..."9").contains(scalar) {
        signs.append(try number(start))
      } else if scalar == "'" || scalar == "\"" {
        signs.append(.string(try quoted(start)))
      } else {
        guard let symbol = Self.symbols.first(where: { scalars[index...].starts(with: $0) }) else {
          throw failure("'\(scalar)' has no meaning in a tag", line)
        }
        index += symbol.count
        let text = string(symbol)
        if "([{".contains(text) { open += 1 }
        if ")]}".contains(text) { open -= 1 }
        signs.append(.symbol(text))
      }
    }
    throw failure("a tag that begins with {\(mark) does not end", start)
  }

  private mutating func number(_ start: Int) throws -> TemplatePiece.Sign {
    let begin = index
    func digits() {
      while let next = peek(0), ("0"..."9").contains(next) || next == "_" { index += 1 }
    }
    digits()
    var isWhole = true
    if peek(0) == ".", let next = peek(1), ("0"..."9").contains(next) {
      isWhole = false
      index += 1
      digits()
    }
    let signOffset = peek(1) == "-" || peek(1) == "+" ? 2 : 1
    if peek(0) == "e" || peek(0) == "E", let next = peek(signOffset), ("0"..."9").contains(next) {
      isWhole = false
      index += signOffset
      digits()
    }
    let text = string(scalars[begin..<index].filter { $0 != "_" })
    if isWhole, let value = Int(text) { return .integer(value) }
    if !isWhole, let value = Double(text) { return .double(value) }
    throw failure("\(text) is too large a number", start)
  }

  private mutating func quoted(_ start: Int) throws -> String {
    let quote = take()
    var text = String.UnicodeScalarView()
    while let next = peek(0), next != quote {
      let scalar = take()
      if scalar == "\\", peek(0) != nil { try escape(&text) } else { text.append(scalar) }
    }
    guard peek(0) == quote else { throw failure("a string does not end", start) }
    _ = take()
    return String(text)
  }

  private mutating func escape(_ text: inout String.UnicodeScalarView) throws {
    let scalar = take()
    switch scalar {
    case "n": text.append("\n")
    case "t": text.append("\t")
    case "r": text.append("\r")
    case "a": text.append("\u{7}")
    case "b": text.append("\u{8}")
    case "f": text.append("\u{C}")
    case "v": text.append("\u{B}")
    case "0": text.append("\0")
    case "\\", "'", "\"": text.append(scalar)
    case "\n": break
    case "x", "u", "U":
      let count = scalar == "x" ? 2 : scalar == "u" ? 4 : 8
      let digits = string(scalars[index..<min(scalars.count, index + count)])
      guard digits.unicodeScalars.count == count, let value = UInt32(digits, radix: 16),
        let found = Unicode.Scalar(value)
      else { throw failure("'\\\(scalar)\(digits)' is no character", line) }
      index += count
      text.append(found)
    default:
      text.append("\\")
      text.append(scalar)
    }
  }
}
