import PeatTensor

/// What a decoder makes of a token, where that is the same wherever the token stands, but for a text's first or last one and for what bytes together are.
///
/// Known are ByteLevel, Metaspace, WordPiece and BPEDecoder alone, and what models made with sentencepiece have: any number of Replace, ByteFallback, Fuse, and a Strip of
/// the beginning.
struct DecodingRule: Sendable {
  private let texts: @Sendable ([UInt8]) -> [UInt8]
  /// What the first token that is not left out stands for, where that is something else; and the last.
  private(set) var firstText: (@Sendable ([UInt8]) -> [UInt8])?
  private(set) var lastText: (@Sendable ([UInt8]) -> [UInt8])?
  /// Whether tokens such as `<0xE4>` are bytes.
  private(set) var hasByteFallback = false
  /// What is cut off the whole text's beginning.
  private var strip: StripDecoder?

  /// `nil` for decoders whose stages have to be run.
  init?(_ stages: [any DecoderStage]) {
    if stages.count == 1 {
      switch stages[0] {
      case is ByteLevelDecoder: texts = { ByteLevelAlphabet.read($0) ?? $0 }
      case let stage as MetaspaceDecoder:
        texts = { stage.text(of: $0, isFirst: false) }
        firstText = { stage.text(of: $0, isFirst: true) }
      case let stage as WordPieceDecoder:
        texts = { stage.text(of: $0, isFirst: false) }
        firstText = { stage.text(of: $0, isFirst: true) }
      case let stage as WordEndDecoder:
        texts = { stage.text(of: $0, isLast: false) }
        lastText = { stage.text(of: $0, isLast: true) }
      default: return nil
      }
      return
    }
    var rest = stages[...]
    var replacements: [ReplaceDecoder] = []
    while let replacement = rest.first as? ReplaceDecoder {
      replacements.append(replacement)
      rest.removeFirst()
    }
    let all = replacements
    if all.count == 1 {
      let replacement = all[0]
      texts = { replacement.text(of: $0) }
    } else {
      texts = { token in all.reduce(token) { text, stage in stage.text(of: text) } }
    }
    if rest.first is ByteFallbackDecoder {
      hasByteFallback = true
      rest.removeFirst()
    }
    guard rest.first is FuseDecoder else { return nil }
    rest.removeFirst()
    if let last = rest.first as? StripDecoder, last.stopCount == 0 {
      strip = last
      rest.removeFirst()
    }
    guard rest.isEmpty else { return nil }
  }

  /// What a token stands for within a text.
  func text(of token: [UInt8]) -> [UInt8] { texts(token) }

  /// How many bytes go at the beginning of a text.
  func strippedCount(of text: [UInt8]) -> Int { strip?.strippedCount(of: text) ?? 0 }
}
