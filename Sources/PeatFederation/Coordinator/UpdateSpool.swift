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

  /// Where a checked update of the current round lies.
  func file(of client: ClientID) -> URL {
    folder.appendingPathComponent("\(client.name).safetensors")
  }

  /// Keeps a checked update of the current round.
  func accept(_ ticket: String, from client: ClientID) throws {
    let target = file(of: client)
    try? FileManager.default.removeItem(at: target)
    do { try FileManager.default.moveItem(at: incoming(ticket), to: target) } catch {
      throw PeatError.inputOutput(
        "Can't keep the update of '\(client)': \(error.localizedDescription)", cause: error)
    }
  }

  func drop(_ ticket: String) { try? FileManager.default.removeItem(at: incoming(ticket)) }

  func discard(_ client: ClientID) { try? FileManager.default.removeItem(at: file(of: client)) }

  func removeAll() { try? FileManager.default.removeItem(at: folder) }
}
