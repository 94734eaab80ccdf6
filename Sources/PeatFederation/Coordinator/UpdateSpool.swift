import Foundation
import PeatTensor

/// Keeps the updates of a round on disk until they are aggregated, so that memory does not grow with the clients.
///
/// Updates are aggregated in the order of the clients' names, whatever order they arrived in: the result of a run is
/// the same to the last bit over any transport.
///
/// A file is named by what it holds: what has arrived of an update goes on where it stopped, also after the coordinator was started again.
package struct UpdateSpool: Sendable {
  package let folder: URL
  /// Whether the files outlive the coordinator.
  let isKept: Bool

  private static let incoming = ".incoming"
  private static let arrivedMark = ".arrived-"

  package init(_ folder: URL, isKept: Bool = false) throws {
    self.folder = folder
    self.isKept = isKept
    do {
      if !isKept { try? FileManager.default.removeItem(at: folder) }
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try goOnReceiving()
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(folder.path)' for incoming updates: "
          + error.localizedDescription, cause: error)
    }
  }

  /// Where the bytes of a client's update lie while they arrive.
  package func incoming(_ payload: BlobReference, from client: ClientID) -> URL {
    folder.appendingPathComponent("\(client.name).\(payload.digest.hex)\(Self.incoming)")
  }

  /// What has arrived of an update before this coordinator was started; `nil`: nothing.
  package func arrived(_ payload: BlobReference, from client: ClientID) -> (Int, IncrementalDigest)?
  {
    guard isKept else { return nil }
    let file = incoming(payload, from: client)
    var digest = IncrementalDigest()
    guard let bytes = FolderBlobStore.size(file), bytes > 0, bytes <= payload.bytes,
      (try? digest.update(contentsOf: file)) == bytes
    else { return nil }
    return (bytes, digest)
  }

  /// Adds a piece to an update that arrives, at the byte where it goes on. A piece that could be written only in part, as the disk was full, leaves
  /// bytes behind that the next one takes the place of.
  ///
  /// - Throws: `unavailable` where it can't be kept: the client may send it again when there is room.
  package func append(_ chunk: Data, to file: URL, at offset: Int) throws {
    do {
      try FilePieces.write(chunk, to: file, at: offset)
    } catch {
      throw PeatError.unavailable(
        "The coordinator can't keep an incoming update in '\(file.path)' now: \(error.localizedDescription)",
        cause: error)
    }
  }

  /// Puts an update that has arrived aside to be looked at: whatever is sent from now on under its name, by whomever, does not reach it.
  ///
  /// - Parameter ticket: the upload's own.
  package func close(_ payload: BlobReference, from client: ClientID, ticket: String) throws -> URL
  {
    let incoming = incoming(payload, from: client)
    // Of hexadecimal digits: it comes from here.
    let closed = folder.appendingPathComponent(
      incoming.lastPathComponent + Self.arrivedMark + Digest(of: Data(ticket.utf8)).hex.prefix(16))
    do {
      // Of an update of no bytes none arrived.
      if !FileManager.default.fileExists(atPath: incoming.path) {
        try FilePieces.write(Data(), to: incoming, at: 0)
      }
      try AtomicOutput.rename(incoming, to: closed)
    } catch {
      throw PeatError.unavailable(
        "The coordinator can't keep the update of '\(client)': \(error.localizedDescription)",
        cause: error)
    }
    return closed
  }

  /// What an earlier coordinator had put aside and not looked at arrives again, from where it was.
  private func goOnReceiving() throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
      guard let mark = name.range(of: Self.incoming + Self.arrivedMark) else { continue }
      let place = folder.appendingPathComponent(name[..<mark.lowerBound] + Self.incoming)
      try AtomicOutput.rename(folder.appendingPathComponent(name), to: place)
    }
  }

  /// Where a checked update of the current round lies.
  package func file(of payload: BlobReference) -> URL {
    folder.appendingPathComponent("\(payload.digest.hex).safetensors")
  }

  /// Keeps a checked update of the current round, in one step: another's update may be the same, to the last bit, and be needed.
  ///
  /// - Parameter closed: where it was put aside.
  package func accept(_ payload: BlobReference, in closed: URL, from client: ClientID) throws {
    do {
      try AtomicOutput.rename(closed, to: file(of: payload))
    } catch {
      throw PeatError.unavailable(
        "The coordinator can't keep the update of '\(client)': \(error.localizedDescription)",
        cause: error)
    }
  }

  func drop(_ payload: BlobReference, from client: ClientID) {
    try? FileManager.default.removeItem(at: incoming(payload, from: client))
  }

  func discard(_ payload: BlobReference) {
    try? FileManager.default.removeItem(at: file(of: payload))
  }

  /// Whether an update that was taken is still what it was.
  func isWhole(_ payload: BlobReference) -> Bool {
    let file = file(of: payload)
    return FolderBlobStore.size(file) == payload.bytes
      && (try? FolderBlobStore.digest(of: file)) == payload.digest
  }

  /// Removes all but the updates that were taken, and where `incoming` says so, what is still arriving.
  func sweep(keeping taken: some Sequence<BlobReference>, incoming: Bool) {
    let names = Set(taken.map { file(of: $0).lastPathComponent })
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    where !names.contains(name) && !(incoming && name.hasSuffix(Self.incoming)) {
      try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
    }
  }

  func removeAll() { try? FileManager.default.removeItem(at: folder) }
}
