import Foundation
import PeatTensor

/// Keeps what a coordinator must not forget, so that one that was killed goes on where it stopped.
///
/// A coordinator commits what an event changes before anybody outside hears of it. All that a commit says is kept, or nothing. Large things (adapters, what
/// a strategy remembers) lie in `blobs`, and are there before a commit names them.
public protocol RunStore: Sendable {
  /// The run's own folder: `updates` in it is the coordinator's.
  var folder: URL { get }

  /// Adapters and what strategies remember, by content; the same that clients download from.
  var blobs: FolderBlobStore { get }

  /// What was kept; `nil` where nothing was.
  ///
  /// - Throws: `badData` where it can't be understood, `inputOutput` where it can't be read.
  func load() throws -> KeptRun?

  /// Keeps what changed.
  ///
  /// - Throws: `inputOutput` where it can't be kept; then nothing of it is.
  func commit(_ changes: RunChanges) throws

  /// Something small that is kept under a name beside the rest; `nil` where there is none.
  func note(_ name: String) throws -> Data?

  /// Keeps something small under a name, in place of what was there.
  func keep(_ note: Data, as name: String) throws
}

extension RunStore {
  /// A note that is a value in JSON.
  package func note<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value? {
    try note(name).map { try KeptJSON.decode(type, from: $0, name) }
  }

  /// Keeps a value in JSON as a note.
  package func keep(_ value: some Encodable, as name: String) throws {
    try keep(try KeptJSON.encode(value), as: name)
  }
}

/// How values are written that are kept: JSON, in which numbers that are none have names.
package enum KeptJSON {
  package static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try encoder.encode(value)
  }

  /// - Parameter name: what it is, for the error.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from data: Data, _ name: String
  ) throws -> Value {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do { return try decoder.decode(type, from: data) } catch {
      throw PeatError.badData(
        "What is kept of the run can't be understood (\(name)): \(describe(error)). It was written by another version of the program, or is damaged.",
        cause: error)
    }
  }
}
