/// The numbers of words already met, for one text or one batch.
///
/// A word has one place, which its hash gives; another word with that place takes it over. So a look-up is one comparison whatever
/// the text, and memory is bounded.
struct WordCache {
  private struct Entry {
    var hash: UInt64 = 0
    var start: Int32 = 0
    var length: Int32 = -1
    var numberStart: Int32 = 0
    var numberCount: Int32 = 0
  }
  /// Longer words hardly come twice.
  static let lengthLimit = 64
  private static let slotCount = 1 << 14
  private static let byteLimit = 1 << 22

  private var entries: [Entry] = []
  private var bytes: [UInt8] = []
  private var numbers: [Int32] = []

  init() {}

  private static func hash(_ word: [UInt8]) -> UInt64 {
    word.withUnsafeBytes { word in
      var hash = UInt64(truncatingIfNeeded: word.count) &* 0x9E37_79B9_7F4A_7C15
      var index = 0
      while index + 8 <= word.count {
        hash = mixed(hash ^ word.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        index += 8
      }
      var tail: UInt64 = 0
      while index < word.count {
        tail = tail << 8 | UInt64(word[index])
        index += 1
      }
      return mixed(hash ^ tail)
    }
  }

  private static func mixed(_ value: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return product.high ^ product.low
  }

  /// Appends the numbers of a word, which `encode` gives where they are not known.
  mutating func append(
    _ word: [UInt8], to result: inout [Int32], encode: ([UInt8], inout [Int32]) -> Void
  ) {
    if word.count > Self.lengthLimit { return encode(word, &result) }
    if entries.isEmpty { entries = Array(repeating: Entry(), count: Self.slotCount) }
    let hash = Self.hash(word)
    let slot = Int(truncatingIfNeeded: hash & UInt64(Self.slotCount - 1))
    let entry = entries[slot]
    if entry.hash == hash, entry.length == Int32(word.count), matches(entry, word) {
      for index in Int(entry.numberStart)..<Int(entry.numberStart + entry.numberCount) {
        result.append(numbers[index])
      }
      return
    }
    let begin = result.count
    encode(word, &result)
    if bytes.count + numbers.count > Self.byteLimit { self = WordCache() }
    if entries.isEmpty { entries = Array(repeating: Entry(), count: Self.slotCount) }
    entries[slot] = Entry(
      hash: hash, start: Int32(bytes.count), length: Int32(word.count),
      numberStart: Int32(numbers.count), numberCount: Int32(result.count - begin))
    bytes += word
    numbers += result[begin...]
  }

  private func matches(_ entry: Entry, _ word: [UInt8]) -> Bool {
    let start = Int(entry.start)
    for index in word.indices where bytes[start + index] != word[index] { return false }
    return true
  }
}
