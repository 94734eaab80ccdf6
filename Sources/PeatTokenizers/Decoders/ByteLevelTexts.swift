import PeatTensor
import Synchronization

/// The bytes that each token of a byte-level vocabulary stands for, one behind the other, so that a text is put together without looking at the alphabet.
struct ByteLevelTexts: Sendable {
  private var bytes: [UInt8] = []
  /// Where each number's bytes begin, and the end of the last.
  private var starts: [Int32] = [0]
  private var isSpecial: [Bool] = []

  /// - Parameters:
  ///   - count: token numbers lie below it.
  ///   - content: a token as the vocabulary writes it; `nil` where there is none.
  init(
    count: Int, content: (Int32) -> ByteString?, isSpecial special: (Int32) -> Bool
  ) {
    starts.reserveCapacity(count + 1)
    for number in 0..<Int32(count) {
      if let token = content(number) {
        bytes += ByteLevelAlphabet.read(token.bytes) ?? token.bytes
      }
      starts.append(Int32(bytes.count))
      isSpecial.append(special(number))
    }
  }

  /// What `ByteLevelDecoder` makes of tokens.
  func text(of tokens: [Int32], skipSpecialTokens: Bool) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(4 * tokens.count)
    bytes.withUnsafeBufferPointer { bytes in
      for token in tokens {
        let number = Int(token)
        guard isSpecial.indices.contains(number), !(skipSpecialTokens && isSpecial[number]) else {
          continue
        }
        text.append(contentsOf: bytes[Int(starts[number])..<Int(starts[number + 1])])
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}

/// A table that is made when it is first asked for.
final class LazyByteLevelTexts: Sendable {
  private let texts = Mutex<ByteLevelTexts?>(nil)

  func value(_ make: () -> ByteLevelTexts) -> ByteLevelTexts {
    texts.withLock { texts in
      if let texts { return texts }
      let made = make()
      texts = made
      return made
    }
  }
}
