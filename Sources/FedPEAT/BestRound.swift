import Foundation

/// The adapter of the round after which plug-in was best: on disk, so that memory holds no second copy.
actor BestRound {
  /// A round, and plug-in perplexity after it.
  struct Place: Sendable, Equatable {
    var round: Int
    var plugIn: Double
  }

  /// `nil` until something was measured.
  private(set) var place: Place?
  private let file: URL

  /// - Parameter folder: where the adapter lies during the run.
  init(in folder: URL) { file = folder.appendingPathComponent("best-round.safetensors") }

  /// Keeps an adapter that is as good as the best before it, or better. What an interruption leaves is whole: the better one, or the one before.
  func take(_ adapter: Adapter, round: Int, plugIn: Double) throws {
    // A perplexity that is no number is no improvement, and the first number beats it.
    guard plugIn.isFinite, plugIn <= place?.plugIn ?? .infinity else { return }
    try SafeTensors.write(adapter.state, to: file)
    place = Place(round: round, plugIn: plugIn)
  }

  /// The adapter of the best round, made like another.
  func adapter(like other: Adapter) throws -> Adapter {
    var result = other
    result.state = try SafeTensorsFile(contentsOf: file).tensors()
    return result
  }
}
