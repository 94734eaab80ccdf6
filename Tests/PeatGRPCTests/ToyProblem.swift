import Foundation
import PeatFederation
import PeatTensor

/// A trainer for tests: a few gradient steps towards a target of its own, disturbed by the task's seed.
///
/// It minimises `½‖w − target‖²`. What a round gives depends on the adapter it was sent, on the data (the target), on
/// the settings and on the seed: two runs agree bit for bit only if all of these do.
struct ToyTrainer: LocalTrainer {
  struct Settings: Codable {
    var steps: Int
    var rate: Float
  }

  enum Failure: Error, CustomStringConvertible {
    case outOfMemory
    var description: String { "out of memory" }
  }

  let target: Float
  let examples: Int
  var seen = Journal()
  /// Called before each training; may throw or wait.
  var onTrain: @Sendable (TrainingTask) async throws -> Void = { _ in }
  /// May change the result.
  var corrupt: @Sendable (TrainingTask, inout LocalResult) -> Void = { _, _ in }

  init(target: Float, examples: Int = 1) {
    self.target = target
    self.examples = examples
  }

  func prepare(package folder: URL, level: Int) async throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    await seen.prepared(level, names)
  }

  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
    try await onTrain(task)
    await seen.trained(task)
    let settings = try task.decodeSettings(as: Settings.self)
    var random = SeededRandom(seed: task.seed)
    var tensors = adapter
    for _ in 0..<(task.localSteps ?? settings.steps) {
      for name in tensors.keys.sorted() {
        tensors[name] = tensors[name]?.map { w in
          w - settings.rate * (w - target + 0.1 * random.normal())
        }
      }
    }
    var result = LocalResult(
      tensors: tensors, exampleCount: examples, metrics: ["steps": Double(settings.steps)],
      computeSeconds: 0.01, peakMemoryBytes: 1000, tokens: 10)
    corrupt(task, &result)
    return result
  }

  static let settings = Data(#"{"steps": 3, "rate": 0.3}"#.utf8)
  static let adapter: NamedTensors = [
    "layers.0.lora_A": Tensor([0.5, -0.25, 0.125, 1, 2, 3], shape: [2, 3]),
    "layers.0.lora_B": [0, 0.1, 0.2, 0.3],
  ]
}

/// What trainers saw.
actor Journal {
  private(set) var tasks: [TrainingTask] = []
  private(set) var preparations: [(level: Int, files: [String])] = []

  func trained(_ task: TrainingTask) { tasks.append(task) }
  func prepared(_ level: Int, _ files: [String]) { preparations.append((level, files)) }
}

/// Collects values from callbacks.
actor Log<Value: Sendable> {
  private(set) var values: [Value] = []
  func add(_ value: Value) { values.append(value) }
}

/// A door that stays shut until it is opened.
actor Door {
  private var isOpen = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  func open() {
    isOpen = true
    for waiter in waiting { waiter.resume() }
    waiting = []
  }

  func pass() async {
    if isOpen { return }
    await withCheckedContinuation { waiting.append($0) }
  }
}
