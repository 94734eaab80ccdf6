import Foundation
import PeatTensor

/// One pull of one model.
struct PullJob: Sendable {
  let name: HubName
  let commit: String
  let cache: HubCache
  let client: HubClient
  let partBytes: Int
  let onProgress: @Sendable (PullProgress) -> Void
  let onNote: @Sendable (String) -> Void
  private let meter = PullMeter()

  /// What is asked for first on a connection: while the first answer on one comes, URLSession on Linux turns in a circle and takes a whole core, as it goes on asking
  /// whether it may send, which it always may. From the second answer on it waits.
  private static let openingBytes = 1 << 16
  /// Where less is missing it is asked for at once.
  private static let worthOpening = 1 << 20

  /// Brings files into the snapshot; gives the number of bytes that came over the network.
  func fetch(_ files: [String]) async throws -> Int {
    var missing: [(file: String, facts: HubClient.FileFacts)] = []
    var total = 0
    for file in files {
      try Task.checkCancellation()
      if let size = try linkedSize(file) {
        meter.found(size)
        total += size
        continue
      }
      let facts = try await client.facts(of: file, in: name, commit: commit)
      let (sum, overflows) = total.addingReportingOverflow(facts.size)
      guard !overflows else {
        throw PeatError.badData("The server says that '\(file)' has \(facts.size) bytes.")
      }
      total = sum
      missing.append((file, facts))
    }
    try cache.checkRoom(for: missing.reduce(0) { $0 + $1.facts.size - begun($1.facts) })
    for (number, (file, facts)) in missing.enumerated() {
      let place = files.count - missing.count + number + 1
      try await fetch(file, facts) { [total] in
        onProgress(meter.progress(file, number: place, of: files.count, total: total))
      }
    }
    return meter.fetchedBytes
  }

  /// The size of a file that is in the snapshot already; what is there and is not what it was is taken away.
  private func linkedSize(_ file: String) throws -> Int? {
    let url = cache.snapshot(of: name, commit: commit).appendingPathComponent(file)
    guard let size = HubCache.fileSize(url) else { return nil }
    if try HubSnapshot.isRight(url) { return size }
    onNote("the cache's '\(file)' is damaged; fetching it again")
    try? FileManager.default.removeItem(at: url.resolvingSymlinksInPath())
    return nil
  }

  /// Bytes of a file that an earlier pull left.
  private func begun(_ facts: HubClient.FileFacts) -> Int {
    let blob = cache.blob(of: name, facts.etag)
    if HubCache.fileSize(blob) == facts.size { return facts.size }
    return min(HubCache.fileSize(PartialBlob.place(of: blob)) ?? 0, facts.size)
  }

  private func fetch(
    _ file: String, _ facts: HubClient.FileFacts, _ onStep: @escaping @Sendable () -> Void
  ) async throws {
    let blob = cache.blob(of: name, facts.etag)
    let lock = try await HubLock(
      cache.folder.appendingPathComponent(".locks/\(name.folderName)/\(facts.etag).lock")
    ) { onNote("another download has '\(file)'; waiting for it") }
    defer { withExtendedLifetime(lock) {} }
    if HubCache.fileSize(blob) == facts.size {
      meter.found(facts.size)
    } else {
      try await fill(blob, file, facts, onStep)
    }
    try cache.link(file, to: facts.etag, of: name, commit: commit)
  }

  private func fill(
    _ blob: URL, _ file: String, _ facts: HubClient.FileFacts,
    _ onStep: @escaping @Sendable () -> Void
  ) async throws {
    let partial = try PartialBlob(of: blob, etag: facts.etag, size: facts.size)
    meter.found(partial.found)
    onStep()
    do {
      try await complete(partial, file, facts, onStep)
      if !partial.isRight, partial.found > 0 {
        onNote("what an earlier download left of '\(file)' was wrong; fetching all of it")
        meter.lost(partial.count)
        try partial.restart()
        try await complete(partial, file, facts, onStep)
      }
    } catch let error as PeatError where error.code == .badData {
      partial.remove()
      throw PeatError.badData("'\(file)' of \(name): \(error.message)", cause: error)
    }
    guard partial.isRight else {
      partial.remove()
      throw PeatError.badData(
        "'\(file)' of \(name) is damaged: its digest is not \(facts.etag), which the server names. It was thrown away; try again, and "
          + "if it happens again, look for a proxy between here and \(client.endpoint).")
    }
    try partial.finish(as: blob)
  }

  /// Fetches what is missing, part by part.
  private func complete(
    _ partial: PartialBlob, _ file: String, _ facts: HubClient.FileFacts,
    _ onStep: @escaping @Sendable () -> Void
  ) async throws {
    // Whether the last answer came to its end, so that there is a connection that goes on.
    var isConnected = false
    func nextPart() async throws {
      let start = partial.count
      let left = facts.size - start
      let opens = !isConnected && left > PullJob.worthOpening
      let count = min(opens ? PullJob.openingBytes : partBytes, left)
      isConnected = false
      try await client.part(of: file, in: name, commit: commit, from: start, count: count) {
        begin in
        if begin == 0, start > 0 {
          // A server that knows no ranges sends everything.
          meter.lost(start)
          try partial.restart()
        }
        return { piece in
          try partial.append(piece)
          meter.fetched(piece.count)
          onStep()
        }
      }
      guard partial.count > start || facts.size == 0 else {
        throw PassingFailure(reason: "the server sent nothing")
      }
      isConnected = true
    }
    while partial.count < facts.size {
      try await client.patience.repeated(
        "'\(file)' of \(name)", progress: { partial.count }, onWaiting: onNote, nextPart)
    }
  }
}
