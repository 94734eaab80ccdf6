import PeatTensor

/// When "▁" is put before a text.
enum PrependScheme: String, CaseIterable, Sendable {
  case first, always, never

  /// Reads "prepend_scheme", or the older "add_prefix_space".
  init(_ part: TokenizerPart) throws {
    guard let scheme = try part.optional("prepend_scheme") else {
      self = try part.bool("add_prefix_space", default: true) ? .always : .never
      return
    }
    let name = try scheme.string().text
    guard let value = PrependScheme(rawValue: name) else {
      throw scheme.unsupported(name, "prepend scheme", supported: Self.allCases.map(\.rawValue))
    }
    if try !part.bool("add_prefix_space", default: true), value != .never {
      throw scheme.failure("is '\(name)', but 'add_prefix_space' is false; expected 'never'.")
    }
    self = value
  }
}

/// Writes spaces as "▁", puts one before the text, and cuts before each.
struct MetaspacePreTokenizer: PreTokenizer {
  let replacement: [UInt8]
  let scheme: PrependScheme
  let cuts: Bool

  init(_ part: TokenizerPart) throws {
    replacement = Array(String(try part.scalar("replacement", default: "▁")).utf8)
    scheme = try PrependScheme(part)
    cuts = try part.bool("split", default: true)
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) {
    var bytes = piece.bytes.replacing(
      Pattern.occurrences(of: [0x20], in: piece.bytes), with: replacement)
    let prepends = scheme == .always || scheme == .first && piece.beginsText
    if prepends, !bytes.starts(with: replacement) { bytes = replacement + bytes }
    let changed = Piece(bytes: bytes, beginsText: piece.beginsText)
    if cuts {
      let marks = Pattern.occurrences(of: replacement, in: bytes)
      SplitBehavior.mergedWithNext.split(changed, at: marks, into: &pieces)
    } else {
      pieces.append(changed)
    }
  }
}
