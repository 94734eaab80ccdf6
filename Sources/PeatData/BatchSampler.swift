import PeatTensor

/// Draws batches from a dataset without end, in an order fixed by a seed.
///
/// The state is small and can be written to a file: a sampler made from it goes on to the same bits.
public struct BatchSampler: Sendable {
  /// Which windows come when.
  public enum Order: String, Sendable, Codable, CaseIterable {
    /// With replacement: of a stream, windows that start anywhere; otherwise any of the dataset's windows.
    case uniformWindows
    /// Each window once per epoch, in a new order each time; batches are always full and may reach into the next epoch.
    case shuffledEpochs
    /// The dataset's own order, again and again; the last batch of a pass may have fewer rows.
    case sequential
  }

  /// Where the sampler stands.
  public struct State: Sendable, Codable, Equatable {
    public let order: Order
    public let rows: Int
    public let seed: UInt64
    /// The dataset's fingerprint.
    public let dataset: UInt64
    /// How many times all windows have been drawn.
    public fileprivate(set) var epoch: Int
    /// The next window of this epoch.
    public fileprivate(set) var position: Int
    /// The source of uniform draws.
    fileprivate var random: SeededRandom
  }

  public let dataset: TokenDataset
  public private(set) var state: State
  /// The order of windows in this epoch.
  private var permutation: [Int] = []

  /// A sampler at its start.
  ///
  /// - Parameter rows: how many windows are in a batch.
  /// - Precondition: `rows` is at least 1.
  public init(_ dataset: TokenDataset, _ order: Order, rows: Int, seed: UInt64) {
    precondition(rows >= 1, "BatchSampler: batches of \(rows) rows")
    self.dataset = dataset
    self.state = State(
      order: order, rows: rows, seed: seed, dataset: dataset.fingerprint, epoch: 0, position: 0,
      random: SeededRandom(seed: seed, "uniform windows"))
    if order == .shuffledEpochs { permutation = Self.permutation(dataset, state) }
  }

  /// A sampler that goes on where another stood.
  ///
  /// - Throws: `PeatError.badData` where the state belongs to other data, or holds numbers that no sampler writes.
  public init(_ dataset: TokenDataset, resuming state: State) throws {
    guard state.dataset == dataset.fingerprint else {
      throw PeatError.badData(
        """
        The saved state belongs to other data (fingerprint \(state.dataset), this data has \
        \(dataset.fingerprint)). Resume with the same files, tokenizer and context.
        """)
    }
    guard state.rows >= 1, state.epoch >= 0, (0..<dataset.windowCount).contains(state.position)
    else {
      throw PeatError.badData(
        """
        The saved state stands at window \(state.position) of \(dataset.windowCount), epoch \
        \(state.epoch), with \(state.rows) rows: no sampler writes that. The file is damaged.
        """)
    }
    self.dataset = dataset
    self.state = state
    if state.order == .shuffledEpochs { permutation = Self.permutation(dataset, state) }
  }

  /// The next batch.
  public mutating func next() -> TokenBatch {
    switch state.order {
    case .uniformWindows:
      let windows = (0..<state.rows).map { _ in drawWindow() }
      return dataset.batch(
        windows,
        maskSeeds: dataset.masking == nil ? [] : windows.map { _ in state.random.next() })
    case .shuffledEpochs:
      var windows: [TokenDataset.Window] = []
      var seeds: [UInt64] = []
      while windows.count < state.rows {
        let window = dataset.windows[permutation[state.position]]
        windows.append(window)
        if dataset.masking != nil {
          // Other tokens are hidden in each epoch.
          let label = "epoch \(state.epoch), window \(window.start)"
          seeds.append(state.seed ^ SeededRandom.hash(of: label))
        }
        advance(by: 1)
      }
      return dataset.batch(windows, maskSeeds: seeds)
    case .sequential:
      let end = min(state.position + state.rows, dataset.windowCount)
      let batch = dataset.batch(dataset.windows[state.position..<end])
      advance(by: end - state.position)
      return batch
    }
  }

  private mutating func advance(by count: Int) {
    state.position += count
    if state.position == dataset.windowCount {
      state.position = 0
      state.epoch += 1
      if state.order == .shuffledEpochs { permutation = Self.permutation(dataset, state) }
    }
  }

  private mutating func drawWindow() -> TokenDataset.Window {
    let context = dataset.tokensPerWindow
    let room = dataset.tokenCount - context - dataset.tokensBeyond
    guard case .stream = dataset.arrangement, room >= 0 else {
      return dataset.windows[state.random.integer(below: dataset.windowCount)]
    }
    // A window of nothing but prompt teaches nothing; every target is in reach of some start, so this ends.
    while true {
      let start = state.random.integer(below: room + 1)
      let window = TokenDataset.Window(start: start, count: context)
      if dataset.targetCount(of: window) > 0 { return window }
    }
  }

  private static func permutation(_ dataset: TokenDataset, _ state: State) -> [Int] {
    var random = SeededRandom(seed: state.seed, "epoch \(state.epoch)")
    return random.shuffled(Array(0..<dataset.windowCount))
  }
}
