import Foundation

/// The adapter of the round after which plug-in was best: on disk, so that memory holds no second copy.
actor BestRound {
  typealias Place = RunResult.BestRound

  /// Of the rounds that counted; `nil` until something was measured.
  private var place: Place?
  /// A round that is better, and was measured, but may not count yet: the run may end before.
  private var newest: Place?
  private let file: URL
  private let newestFile: URL

  private let metric: Metric

  /// - Parameter folder: where the adapter lies during the run.
  init(in folder: URL, metric: Metric) {
    self.metric = metric
    file = folder.appendingPathComponent("best-round.safetensors")
    newestFile = folder.appendingPathComponent("best-round-newest.safetensors")
  }

  /// Goes on from the rounds that counted before the coordinator was started again.
  func restore(_ rounds: [KeptRound], from blobs: FolderBlobStore) throws {
    guard let best = Self.best(of: rounds.map(\.record), metric),
      let adapter = rounds.first(where: { $0.record.round == best.round })?.adapter
    else { return }
    place = best
    try SafeTensors.write(
      try SafeTensorsFile(contentsOf: blobs.url(of: adapter.adapter)).tensors(), to: file)
  }

  /// The best of some rounds, by their records; `nil` where nothing was measured.
  static func best(of rounds: [RoundRecord], _ metric: Metric) -> Place? {
    rounds.reduce(nil) { best, record in
      guard let plugIn = record.metrics["plugIn"],
        metric.isAsGood(plugIn, as: best?.plugIn ?? .nan)
      else { return best }
      return Place(round: record.round, plugIn: plugIn)
    }
  }

  /// Keeps an adapter that is as good as the best before it, or better. What an interruption leaves is whole: the better one, or the one before.
  func take(_ adapter: Adapter, round: Int, plugIn: Double) throws {
    // The next round is only evaluated where this one counted.
    try settle(after: round - 1)
    // What is no number is no improvement, and the first number beats it.
    guard metric.isAsGood(plugIn, as: place?.plugIn ?? .nan) else { return }
    try SafeTensors.write(adapter.state, to: newestFile)
    newest = Place(round: round, plugIn: plugIn)
  }

  /// The best of the rounds up to this one, which counted.
  @discardableResult
  func settle(after round: Int) throws -> Place? {
    if let newest, newest.round <= round {
      try? FileManager.default.removeItem(at: file)
      try FileManager.default.moveItem(at: newestFile, to: file)
      place = newest
    }
    newest = nil
    return place
  }

  /// The adapter of the best round, made like another.
  func adapter(like other: Adapter) throws -> Adapter {
    var result = other
    result.state = try SafeTensorsFile(contentsOf: file).tensors()
    return result
  }
}
