import PeatTensor

/// Changes a text before it is cut into pieces.
protocol Normalizer: Sendable {
  /// - Throws: `badData` where a regular expression can't be matched against the text, or it would become absurdly long.
  func normalized(_ text: [UInt8]) throws -> [UInt8]

  /// The same; `keepsStart` becomes false where what stands at the beginning is left out. (In tokenizers, what follows then no
  /// longer begins the text.)
  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8]
}

extension Normalizer {
  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(text)
  }

  /// For one that leaves out scalars of some class.
  func normalized(
    _ text: [UInt8], keepsStart: inout Bool, leavingOut isLeftOut: (UInt32) -> Bool
  ) throws -> [UInt8] {
    if !text.isEmpty, isLeftOut(UTF8Text.scalar(text, at: 0).value) { keepsStart = false }
    return try normalized(text)
  }
}

/// The normalizers that this reader knows; a new one is a file beside this one and a line here.
enum Normalizers {
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> any Normalizer)] = [
      ("Sequence", { try NormalizerSequence($0) }),
      ("Prepend", { PrependNormalizer(prefix: try Pattern.content($0.required("prepend"))) }),
      ("Replace", { try ReplaceNormalizer($0) }),
      ("NFC", { _ in UnicodeForm.nfc }),
      ("NFD", { _ in UnicodeForm.nfd }),
      ("NFKC", { _ in UnicodeForm.nfkc }),
      ("NFKD", { _ in UnicodeForm.nfkd }),
      ("Lowercase", { _ in LowercaseNormalizer() }),
      ("Strip", { try StripNormalizer($0) }),
      ("StripAccents", { _ in StripAccentsNormalizer() }),
      ("BertNormalizer", { try BertNormalizer($0) }),
      ("Precompiled", { try PrecompiledNormalizer($0) }),
      ("Nmt", { _ in NmtNormalizer() }),
      ("ByteLevel", { _ in ByteLevelNormalizer() }),
    ]

  static func read(_ part: TokenizerPart) throws -> any Normalizer {
    try part.type(in: known, of: "normalizer")(part)
  }
}

/// Several normalizers, one after the other.
struct NormalizerSequence: Normalizer {
  let normalizers: [any Normalizer]
  private let place: TokenizerPart

  /// What a text may always become, and how often its own length: files that mean to read texts stay far below.
  static let freeSize = 16 << 20
  static let growthLimit = 64

  init(_ part: TokenizerPart) throws {
    place = part
    normalizers = try part.required("normalizers").elements().map(Normalizers.read)
  }

  func normalized(_ text: [UInt8]) throws -> [UInt8] {
    var keepsStart = true
    return try normalized(text, keepsStart: &keepsStart)
  }

  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    let limit = max(Self.freeSize, Self.growthLimit * text.count)
    return try normalizers.reduce(text) { before, normalizer in
      let after = try normalizer.normalized(before, keepsStart: &keepsStart)
      guard after.count <= limit else {
        throw place.failure(
          "makes \(after.count) bytes of a text of \(text.count); at most \(limit) can be handled.")
      }
      return after
    }
  }
}
