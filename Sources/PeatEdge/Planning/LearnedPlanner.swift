import Foundation
import PeatControl
import PeatTensor

/// Decides as a network that `train-controller` wrote thinks best.
struct LearnedPlanner: EdgePlanner {
  private let network: any ActorCritic
  private let work: WorkChoices

  /// What to do where a controller does not fit a run.
  private static let advice =
    "Give the run the emulators and the edge file (--edge, or 'edge' in the run file) that it was trained for; or train one for this run: 'fedpeat calibrate RUN --out edge.yaml', and 'fedpeat train-controller --environment edge.yaml --out controller.safetensors'."

  /// - Parameters:
  ///   - levels: how many it must be made for; `nil`: for whatever it was made.
  ///   - work: what it must choose from.
  ///   - learning: what of it must be seen.
  ///   - devices: how many are to be planned for; `nil`: any number, which a flat network can't.
  /// - Throws: `inputOutput` or `badData` where the file is no controller, or is for something else.
  init(
    _ path: String, levels: Int?, work: WorkChoices, learning: LearningModel, devices: Int?
  ) throws {
    guard !path.isEmpty else {
      throw PeatError.usage("The planner 'learned:' needs a file: learned:controller.safetensors.")
    }
    let file = try ControllerFile(contentsOf: URL(fileURLWithPath: path))
    let own = file.facts.shape
    guard file.facts.network.kind == .shared || devices != nil else {
      throw PeatError.badData(
        "The controller '\(path)' is flat: it plans for exactly \(own.devices) devices. Train one with --network shared for a live federation."
      )
    }
    if let levels {
      try file.check(
        for: PlanningFeatures.shape(
          devices: devices ?? own.devices, levels: levels, work: work, learning: learning),
        name: path, advice: Self.advice)
    }
    network = file.network
    self.work = work
  }

  func decide(_ view: some PlanningView) -> [EdgeDecision] {
    let devices = view.deviceCount
    guard devices > 0 else { return [] }
    var shape = network.shape
    shape.devices = devices
    let observation = Tensor(zeros: [1, shape.observationSize])
    var place = observation.pointer
    PlanningFeatures.observe(view, &place)
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: shape.logits) { mask in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: shape.choices) { actions in
        guard var masks = mask.baseAddress, let first = actions.baseAddress else { return [] }
        let begin = masks
        PlanningFeatures.mask(view, shape.branches, &masks)
        let (logits, _) = network(observation, on: Tape())
        let distributions = BranchDistributions(shape.branches, gated: true)
        distributions.update(logits: logits.pointer, mask: begin, rows: devices)
        distributions.greedy(into: first)
        return (0..<devices).map { EdgeDecision(first + $0 * shape.branches.count, work) }
      }
    }
  }
}
