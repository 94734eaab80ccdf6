import Foundation
import PeatTensor

/// Gets models from the Hub into the cache.
///
/// Files come one after the other, in parts, straight to the disk; each is there only once its digest is right. What was begun is
/// gone on with, also by another process, and a file that two revisions share is fetched once.
public struct HubPull: Sendable {
  public var settings: HubSettings
  public var patience: HubPatience
  /// Bytes asked for at a time: what may wait in memory where the disk is slower than the network.
  public var partBytes: Int

  public init(
    _ settings: HubSettings, patience: HubPatience = HubPatience(), partBytes: Int = 64 << 20
  ) {
    precondition(partBytes > 0, "a part has bytes")
    self.settings = settings
    self.patience = patience
    self.partBytes = partBytes
  }

  /// What was pulled.
  public struct Result: Sendable {
    public var name: HubName
    public var commit: String
    /// A folder as Hugging Face lays a model out.
    public var folder: URL
    /// Names in the folder, in alphabetical order.
    public var files: [String]
    /// Of all files, and of those fetched now.
    public var bytes: Int
    public var fetchedBytes: Int
  }

  /// - Throws: `usage` for a name that the Hub does not know or does not give, `unavailable` where it can't be reached, `badData` for answers that
  ///   are wrong and models without safetensors, `inputOutput` for the disk, `CancellationError`.
  public func pull(
    _ name: HubName, onProgress: @escaping @Sendable (PullProgress) -> Void = { _ in },
    onNote: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> Result {
    if settings.isOffline { return try cached(name) }
    let transport = HubTransport(patience: patience.silence)
    defer { transport.close() }
    let client = HubClient(
      endpoint: settings.endpoint, token: settings.token, transport: transport, patience: patience,
      onWaiting: onNote)
    let repository = try await client.repository(name)
    let selection = try HubSelection(repository.files, of: name)
    let commit = repository.commit
    let job = PullJob(
      name: name, commit: commit, cache: settings.cache, client: client, partBytes: partBytes,
      onProgress: onProgress, onNote: onNote)
    let fetched = try await job.fetch(selection.small + selection.weights)
    let folder = settings.cache.snapshot(of: name, commit: commit)
    if let missing = HubSnapshot.missing(from: folder) {
      throw PeatError.badData("'\(name)' is not whole on the server: \(missing).")
    }
    // Last: until everything is there, the name leads to what it led to before.
    try settings.cache.note(commit, for: name)
    return try result(name, commit, folder, fetched: fetched)
  }

  /// What is in the cache already, without asking anybody.
  private func cached(_ name: HubName) throws -> Result {
    guard let folder = settings.cache.snapshot(of: name) else {
      throw PeatError.unavailable(
        "'\(name)' is not in the cache '\(settings.cache.folder.path)', and HF_HUB_OFFLINE says that nothing may be fetched."
      )
    }
    let place =
      "in '\(folder.path)', and HF_HUB_OFFLINE says that nothing may be fetched. Without it, 'fedpeat pull \(name)' gets the rest."
    if let missing = HubSnapshot.missing(from: folder) {
      throw PeatError.unavailable("The cache has only a part of '\(name)': \(missing), \(place)")
    }
    let cached = try result(name, folder.lastPathComponent, folder, fetched: 0)
    for file in cached.files
    where try !HubSnapshot.isRight(folder.appendingPathComponent(file)) {
      throw PeatError.unavailable(
        "The cache's '\(file)' of '\(name)' is damaged: its digest is not the one that it is named by, \(place)"
      )
    }
    return cached
  }

  private func result(
    _ name: HubName, _ commit: String, _ folder: URL, fetched: Int
  ) throws -> Result {
    let files = (try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []
    var bytes = 0
    var names: [String] = []
    for file in files.sorted() {
      guard let size = HubCache.fileSize(folder.appendingPathComponent(file)) else { continue }
      bytes += size
      names.append(file)
    }
    return Result(
      name: name, commit: commit, folder: folder, files: names, bytes: bytes, fetchedBytes: fetched)
  }
}
