import Synchronization

/// How far a pull is.
public struct PullProgress: Sendable {
  /// The file that is being fetched.
  public var file: String
  /// Its number, from 1, and how many there are.
  public var fileNumber: Int
  public var fileCount: Int
  /// Bytes of all files that are there, those of earlier pulls among them.
  public var bytes: Int
  public var totalBytes: Int
  /// Since this pull began; `nil` in its first moments.
  public var bytesPerSecond: Double?

  public var secondsLeft: Double? {
    bytesPerSecond.map { $0 > 0 ? Double(totalBytes - bytes) / $0 : .infinity }
  }
}

/// Counts what comes.
final class PullMeter: Sendable {
  private let begin = ContinuousClock.now
  private let counts = Mutex((there: 0, fetched: 0))

  /// Bytes that need not be fetched.
  func found(_ bytes: Int) { counts.withLock { $0.there += bytes } }
  func fetched(_ bytes: Int) { counts.withLock { $0.fetched += bytes } }
  /// What was counted turned out to be useless.
  func lost(_ bytes: Int) { counts.withLock { $0.there -= bytes } }

  var fetchedBytes: Int { counts.withLock { $0.fetched } }

  func progress(_ file: String, number: Int, of count: Int, total: Int) -> PullProgress {
    let counts = counts.withLock { $0 }
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    return PullProgress(
      file: file, fileNumber: number, fileCount: count, bytes: counts.there + counts.fetched,
      totalBytes: total,
      bytesPerSecond: seconds > 0.5 ? Double(counts.fetched) / seconds : nil)
  }
}
