import Foundation
import PeatTensor
import PeatTokenizers

/// Tokens on disk, mapped into memory; what has been read of them is given back at once.
///
/// The file is gone with the object. 4 bytes a token: its number, and in the highest bit whether it is learned.
public final class TokenFile: Sendable {
  private let data: MappedFile
  /// Where these tokens begin in the data.
  private let first: Int
  public let count: Int
  /// How many documents they are of; of a part its share. Where each begins is not kept: there may be more of them than memory holds.
  public let documentCount: Int
  /// Of the texts, in UTF-8; of a part its share.
  public let textBytes: Int
  /// Tokens that are learned, and bytes of what they are of; of a part its share.
  public let learnedCount: Int
  public let learnedBytes: Int

  private static let learned: UInt32 = 1 << 31
  /// Of documents that are joined, how much is encoded at a time: as much as a piece of a plain text.
  private static let pieceBytes = DocumentStream.usualPieceBytes

  /// Encodes documents one by one. Of pieces of a text only the first gets a begin token, and none an end token.
  ///
  /// - Parameters:
  ///   - separator: what documents are joined by to one text; about `pieceBytes` of it are encoded at a time. `nil`: each is encoded by itself.
  ///   - folder: where the file lies while there is a name for it.
  ///   - isLearnable: which tokens may be learned at all; special ones in a text are never hidden.
  ///   - prepare: what becomes of a document before it is encoded.
  /// - Throws: `badData` where there is nothing to learn, `inputOutput` where the folder has no room, and what stream and tokenizer
  ///   throw.
  public init(
    _ documents: consuming DocumentStream, tokenizer: some TextTokenizer, addBegin: Bool = false,
    addEnd: Bool = false, joinedBy separator: String? = nil,
    in folder: URL = FileManager.default.temporaryDirectory,
    isLearnable: (Int32) -> Bool = { _ in true },
    prepare: (Document) throws -> Document = { $0 }
  ) throws {
    let url = folder.appendingPathComponent("fedpeat-\(UUID().uuidString).tokens")
    defer { try? FileManager.default.removeItem(at: url) }
    var (documentCount, tokenCount, bytes) = (0, 0, 0)
    var (learnedCount, learnedBytes) = (0, 0)
    let isOneText = separator != nil || documents.isOneText
    do {
      try Data().write(to: url)
      let handle = try FileHandle(forWritingTo: url)
      defer { try? handle.close() }
      func append(_ document: Document, of count: Int) throws {
        bytes += document.text.utf8.count
        learnedBytes += document.segments.reduce(0) {
          $0 + ($1.isLearned ? $1.text.utf8.count : 0)
        }
        let sequence = try TokenSequence(
          document, tokenizer: tokenizer,
          addBegin: addBegin && (documentCount == 0 || !isOneText),
          addEnd: addEnd && !isOneText)
        let words = zip(sequence.tokens, sequence.isTarget).map { token, isTarget in
          (UInt32(bitPattern: token)
            | (isTarget && isLearnable(token) ? TokenFile.learned : 0)).littleEndian
        }
        try handle.write(contentsOf: words.withUnsafeBytes { Data($0) })
        documentCount += count
        tokenCount += words.count
        learnedCount += sequence.isTarget.count { $0 }
      }
      var joined = ""
      var joinedCount = 0
      while let document = try documents.next() {
        let document = try prepare(document)
        guard let separator else {
          try append(document, of: 1)
          continue
        }
        if documentCount + joinedCount > 0 { joined += separator }
        if joined.utf8.count >= Self.pieceBytes {
          try append(Document(joined), of: joinedCount)
          (joined, joinedCount) = ("", 0)
        }
        joined += document.text
        joinedCount += 1
      }
      if joinedCount > 0 { try append(Document(joined), of: joinedCount) }
      guard tokenCount > 1 else {
        throw PeatError.badData("The file has fewer than two tokens to learn from.")
      }
      data = try MappedFile(url)
    } catch let error where !(error is PeatError) {
      throw PeatError.inputOutput(
        "Tokens can't be kept in '\(folder.path)': \(error.localizedDescription)", cause: error)
    }
    first = 0
    textBytes = bytes
    self.learnedCount = learnedCount
    self.learnedBytes = learnedBytes
    self.documentCount = documentCount
    count = tokenCount
  }

  /// Some of a file's tokens, whose memory they share.
  private init(_ whole: TokenFile, _ range: Range<Int>) {
    data = whole.data
    first = whole.first + range.lowerBound
    count = range.count
    let share = Double(range.count) / Double(max(whole.count, 1))
    textBytes = Int(Double(whole.textBytes) * share)
    learnedCount = Int(Double(whole.learnedCount) * share)
    learnedBytes = Int(Double(whole.learnedBytes) * share)
    documentCount = max(1, Int((Double(whole.documentCount) * share).rounded()))
  }

  /// A part of the tokens; what they lie in is shared.
  ///
  /// - Precondition: the range is within `0 ..< count`.
  public func part(_ range: Range<Int>) -> TokenFile {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "tokens \(range) of \(count)")
    return TokenFile(self, range)
  }

  /// Some of the tokens, and which of them are learned.
  ///
  /// - Precondition: the range is within `0 ..< count`.
  public func sequence(_ range: Range<Int>) -> TokenSequence {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "tokens \(range) of \(count)")
    var tokens: [Int32] = []
    var isTarget: [Bool] = []
    tokens.reserveCapacity(range.count)
    isTarget.reserveCapacity(range.count)
    for place in range {
      let word = UInt32(
        littleEndian: data.bytes.loadUnaligned(
          fromByteOffset: 4 * (first + place), as: UInt32.self))
      tokens.append(Int32(bitPattern: word & ~TokenFile.learned))
      isTarget.append(word & TokenFile.learned != 0)
    }
    data.releasePages(around: 4 * (first + range.lowerBound)..<4 * (first + range.upperBound))
    return TokenSequence(tokens: tokens, isTarget: isTarget)
  }
}
