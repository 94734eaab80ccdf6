import PeatTensor
import Synchronization

/// The text that each token of a vocabulary stands for, one behind the other, so that a whole text is put together without running the decoder's stages over its tokens.
///
/// Made for decoders of which `DecodingRule` knows what they do with a token; the others run their stages.
struct TokenTexts: Sendable {
  private let rule: DecodingRule
  private let content: @Sendable (Int32) -> ByteString?
  private var bytes: [UInt8] = []
  /// Where each number's bytes begin, and the end of the last.
  private var starts: [Int32] = [0]
  private var kinds: [Kind] = []
  /// The byte that each number stands for, where it is one of those.
  private var fallbacks: [UInt8] = []

  private enum Kind: UInt8 { case absent, text, byte, special, specialByte }

  /// - Parameters:
  ///   - count: token numbers lie below it.
  ///   - content: a token as the vocabulary writes it; `nil` where there is none.
  ///   - isSkipped: whether a token is left out where special ones are.
  init(
    _ rule: DecodingRule, count: Int, content: @escaping @Sendable (Int32) -> ByteString?,
    isSkipped: (Int32) -> Bool
  ) {
    self.rule = rule
    self.content = content
    starts.reserveCapacity(count + 1)
    kinds.reserveCapacity(count)
    for number in 0..<Int32(count) {
      var (kind, fallback): (Kind, UInt8) = (.absent, 0)
      if let token = content(number) {
        let text = rule.text(of: token.bytes)
        let byte = rule.hasByteFallback ? ByteFallbackDecoder.byte(text) : nil
        let isSpecial = isSkipped(number)
        if let byte {
          (kind, fallback) = (isSpecial ? .specialByte : .byte, byte)
        } else {
          kind = isSpecial ? .special : .text
          bytes += text
        }
      }
      starts.append(Int32(bytes.count))
      kinds.append(kind)
      if rule.hasByteFallback { fallbacks.append(fallback) }
    }
  }

  /// What the decoder makes of tokens.
  func text(of tokens: [Int32], skipSpecialTokens: Bool) -> String {
    func isLeftOut(_ token: Int32) -> Bool {
      guard kinds.indices.contains(Int(token)) else { return true }
      switch kinds[Int(token)] {
      case .absent: return true
      case .text, .byte: return false
      case .special, .specialByte: return skipSpecialTokens
      }
    }
    // At the ends a token may stand for something else.
    var (begin, end): ([UInt8], [UInt8]) = ([], [])
    var middle = tokens[...]
    if let edge = rule.lastText, let place = middle.lastIndex(where: { !isLeftOut($0) }) {
      end = content(tokens[place]).map { edge($0.bytes) } ?? []
      middle = middle[..<place]
    }
    if let edge = rule.firstText, let place = middle.firstIndex(where: { !isLeftOut($0) }) {
      begin = content(tokens[place]).map { edge($0.bytes) } ?? []
      middle = middle[(place + 1)...]
    }
    var text = begin
    text.reserveCapacity(4 * tokens.count)
    var run: [UInt8] = []
    bytes.withUnsafeBufferPointer { bytes in
      for token in middle where !isLeftOut(token) {
        let number = Int(token)
        if rule.hasByteFallback {
          if kinds[number] == .byte || kinds[number] == .specialByte {
            run.append(fallbacks[number])
            continue
          }
          if !run.isEmpty { ByteFallbackDecoder.flush(&run, into: &text) }
        }
        text.append(contentsOf: bytes[Int(starts[number])..<Int(starts[number + 1])])
      }
    }
    if !run.isEmpty { ByteFallbackDecoder.flush(&run, into: &text) }
    text += end
    return String(decoding: text.dropFirst(rule.strippedCount(of: text)), as: UTF8.self)
  }
}

/// A table that is made when it is first asked for.
final class LazyTokenTexts: Sendable {
  private let texts = Mutex<TokenTexts?>(nil)

  func value(_ make: () -> TokenTexts) -> TokenTexts {
    texts.withLock { texts in
      if let texts { return texts }
      let made = make()
      texts = made
      return made
    }
  }
}
