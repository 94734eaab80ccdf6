import Foundation
import PeatTensor

/// Keeps the updates of a round on disk until they are aggregated, so that memory does not grow with the clients.
///
/// Updates are aggregated in the order of the clients' names, whatever order they arrived in: the result of a run is
/// the same to the last bit over any transport.
struct UpdateSpool: Sendable {
  let folder: URL

  init(_ folder: URL) throws {
    self.folder = folder
    do {
      try? FileManager.default.removeItem(at: folder)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(folder.path)' for incoming updates: "
          + error.localizedDescription, cause: error)
    }
  }

  /// Where the bytes of an update lie while they arrive.
  func incoming(_ ticket: String) -> URL { folder.appendingPathComponent("\(ticket).incoming") }

  /// Adds a piece to an update that arrives, at the byte where it goes on. A piece that could be written only in part, as the disk was full, leaves
  /// bytes behind that the next one takes the place of.
  func append(_ chunk: Data, to ticket: String, at offset: Int) throws {
    let file = incoming(ticket)
    do {
      if offset == 0 { try Data().write(to: file) }
      let handle = try FileHandle(forWritingTo: file)
      defer { try? handle.close() }
      try handle.truncate(atOffset: UInt64(offset))
      try handle.seek(toOffset: UInt64(offset))
      try handle.write(contentsOf: chunk)
    } catch {
      throw PeatError.inputOutput(
        "Can't keep an incoming update in '\(file.path)': \(error.localizedDescription)",
        cause: error)
    }
  }

  /// Where a checked update lies. A client's name holds no '@'.
  func file(of key: Coordinator.UpdateKey) -> URL {
    folder.appendingPathComponent("\(key.client.name)@\(key.round)-\(key.number).safetensors")
  }

  /// Keeps a checked update.
  func accept(_ ticket: String, as key: Coordinator.UpdateKey) throws {
    let target = file(of: key)
    try? FileManager.default.removeItem(at: target)
    do { try FileManager.default.moveItem(at: incoming(ticket), to: target) } catch {
      throw PeatError.inputOutput(
        "Can't keep the update of '\(key.client)': \(error.localizedDescription)", cause: error)
    }
  }

  func drop(_ ticket: String) { try? FileManager.default.removeItem(at: incoming(ticket)) }

  func discard(_ key: Coordinator.UpdateKey) {
    try? FileManager.default.removeItem(at: file(of: key))
  }

  func removeAll() { try? FileManager.default.removeItem(at: folder) }
}
