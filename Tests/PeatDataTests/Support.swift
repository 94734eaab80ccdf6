import Foundation
import PeatTensor
import PeatTokenizers

/// One token per byte; 256 begins, 257 ends.
struct ByteTokenizer: TextTokenizer {
  var vocabularySize: Int { 258 }
  var beginToken: Int32? = 256
  var endToken: Int32? = 257

  func encode(_ text: String, addSpecialTokens: Bool) -> [Int32] { text.utf8.map { Int32($0) } }

  func decode(_ tokens: [Int32], skipSpecialTokens: Bool) -> String {
    String(decoding: tokens.filter { $0 < 256 }.map { UInt8($0) }, as: UTF8.self)
  }
}

/// A folder that is removed after the test.
func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory
    .appending(path: "peat-data-\(UUID().uuidString)", directoryHint: .isDirectory)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}

/// A file with these contents, for the time of `body`.
func withFile<Result>(
  _ contents: String, named name: String = "data.txt", _ body: (URL) throws -> Result
) throws -> Result {
  try withFile([UInt8](contents.utf8), named: name, body)
}

func withFile<Result>(
  _ contents: [UInt8], named name: String = "data.txt", _ body: (URL) throws -> Result
) throws -> Result {
  try withFolder { folder in
    let url = folder.appending(path: name)
    try Data(contents).write(to: url)
    return try body(url)
  }
}

/// The error that `body` ends in, or nil.
func errorOf<Result>(_ body: () throws -> Result) -> PeatError? {
  do {
    _ = try body()
    return nil
  } catch { return error as? PeatError }
}
