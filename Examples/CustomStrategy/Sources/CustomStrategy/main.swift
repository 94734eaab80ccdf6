// A federation of one's own from end to end: a strategy, a data set and a client loop that FedPEAT does not know.
//
//     swift run -c release CustomStrategy
//
// Five thermometers each learn the line y = 3x − 1 from points of their own; one of them is broken and says anything. FedAvg
// believes it as much as the others. The strategy here believes a client as far as its own line fits its own points.
import FedPEATClient
import Foundation

// MARK: The strategy

/// The mean of the updates, each weighted by how well it fits its client's own data: wₖ = nₖ / (lossₖ + ε).
struct MeanByFit: AggregationStrategy {
  let name = "mean-by-fit"
  let summary = "the mean, weighted by examples over loss"

  func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator {
    Accumulator(current: current)
  }

  /// Updates stream through it, so memory does not grow with the number of clients.
  struct Accumulator: UpdateAccumulator {
    let current: NamedTensors
    var sums: [String: [Double]] = [:]
    var weight = 0.0
    let state = StrategyState()
    let notes: [String: Double] = [:]

    mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws {
      guard let loss = update.header.metrics["loss"], loss >= 0 else {
        throw PeatError.badData("The update of '\(update.client)' does not say its loss.")
      }
      let share = Double(update.exampleCount) / (loss + 1e-3) * update.discount
      try add(update.tensors, share)
    }

    mutating func add(server tensors: NamedTensors, share: Double) throws {
      try add(tensors, weight * share / (1 - share))
    }

    private mutating func add(_ tensors: NamedTensors, _ share: Double) throws {
      for (name, start) in current {
        guard let values = tensors[name]?.scalars, values.count == start.count else {
          throw PeatError.badData("An update has no '\(name)' of the adapter's shape.")
        }
        let sum = sums[name] ?? Array(repeating: 0, count: values.count)
        sums[name] = zip(sum, values).map { $0 + share * Double($1) }
      }
      weight += share
    }

    mutating func restore(_ whole: NamedTensors) throws {
      throw PeatError.usage("By 'mean-by-fit' the adapter is sent as it is: leave 'download' out.")
    }

    mutating func next() throws -> NamedTensors {
      guard weight > 0 else { throw PeatError.badData("There is no update to aggregate.") }
      return current.reduce(into: [:]) { next, entry in
        let sum = sums[entry.key] ?? []
        next[entry.key] = Tensor(sum.map { Float($0 / weight) }, shape: entry.value.shape)
      }
    }

    /// It is no mean of low-rank products: there is none to be off from.
    func relativeError(of state: NamedTensors) throws -> Double { 0 }
  }
}

// MARK: The data

/// What one thermometer measured.
struct Points {
  var x: [Double] = []
  var y: [Double] = []

  /// - Parameter noise: how far points lie from the line, as a standard deviation.
  init(count: Int, noise: Double, isBroken: Bool, seed: UInt64) {
    var random = SeededRandom(seed: seed)
    for _ in 0..<count {
      let place = Double(random.uniform(-1, 1))
      x.append(place)
      let said = isBroken ? Double(random.uniform(-8, 8)) : 3 * place - 1
      y.append(said + noise * Double(random.normal()))
    }
  }
}

// MARK: The client's loop

/// Fits a line to its points by gradient descent, from where the round's adapter is.
struct LineTrainer: LocalTrainer {
  struct Settings: Codable {
    var steps: Int
    var rate: Double
  }

  let points: Points

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    let settings = try task.decodeSettings(as: Settings.self)
    guard let start = adapter["line"]?.scalars, start.count == 2 else {
      throw PeatError.badData("The adapter has no 'line' of two values.")
    }
    var (slope, offset) = (Double(start[0]), Double(start[1]))
    let count = Double(points.x.count)
    var loss = 0.0
    for _ in 0...settings.steps {
      var (toSlope, toOffset) = (0.0, 0.0)
      loss = 0
      for (x, y) in zip(points.x, points.y) {
        let error = slope * x + offset - y
        toSlope += 2 * error * x / count
        toOffset += 2 * error / count
        loss += error * error / count
      }
      slope -= settings.rate * toSlope
      offset -= settings.rate * toOffset
    }
    return LocalResult(
      tensors: ["line": [Float(slope), Float(offset)]], exampleCount: points.x.count,
      metrics: ["loss": loss])
  }
}

// MARK: The federation

/// Runs a federation in this process; gives how far its line is from the true one.
func distance(by strategy: any AggregationStrategy) async throws -> Double {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("custom-strategy-\(UUID().uuidString)")
  defer { try? FileManager.default.removeItem(at: folder) }

  // What clients are sent beside the adapter: an emulator's files, or, as here, a note.
  let package = folder.appendingPathComponent("package")
  try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
  try Data("a line has two values\n".utf8).write(to: package.appendingPathComponent("note.txt"))
  let store = MemoryBlobStore()

  var rules = RoundRules(rounds: 10, minimumClients: 5, minimumUpdates: 5)
  rules.deadline = .seconds(60)
  let settings = LineTrainer.Settings(steps: 20, rate: 0.2)
  let coordinator = try await Coordinator(
    CoordinatorConfiguration(
      run: "thermometers", seed: 1, rules: rules, method: "line",
      settings: try JSONEncoder().encode(settings)),
    adapter: ["line": [0, 0]], levels: [try await Package(folder: package, store: store)],
    store: store, workFolder: folder.appendingPathComponent("coordinator"), strategy: strategy)

  let transport = InMemoryTransport(coordinator)
  let report = try await withThrowingTaskGroup(of: Void.self) { group in
    for number in 1...5 {
      let points = Points(
        count: 40, noise: 0.1, isBroken: number == 5, seed: UInt64(number))
      let client = try Client(
        ClientConfiguration(client: try ClientID("thermometer-\(number)")),
        connection: transport.connect(), trainer: LineTrainer(points: points),
        workFolder: folder.appendingPathComponent("client-\(number)"))
      group.addTask { _ = try await client.run() }
    }
    let report = try await coordinator.run()
    try await group.waitForAll()
    return report
  }
  let line = report.adapter["line"]?.scalars ?? [0, 0]
  let (slope, offset) = (Double(line[0]), Double(line[1]))
  print("\(strategy.name): y = \(slope) x + \(offset) after \(report.rounds.count) rounds")
  return ((slope - 3) * (slope - 3) + (offset + 1) * (offset + 1)).squareRoot()
}

let byFit = try await distance(by: MeanByFit())
let byExamples = try await distance(by: FedAvg())
print("distance from y = 3x − 1: \(byFit) by fit, \(byExamples) by FedAvg")
guard byFit < 0.1, byFit < byExamples else {
  print("the strategy does not do what it is for")
  exit(1)
}
