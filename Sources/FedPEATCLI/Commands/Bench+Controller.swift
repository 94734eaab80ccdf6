import FedPEAT
import Foundation

extension Bench {
  private struct Case: Encodable {
    var width: Int
    /// Rounds learned from per second of processor time, updates included.
    var stepsPerProcessorSecond: Double
    var peerStepsPerProcessorSecond: Double?
    var ratio: Double?
    var runs: [Double]
    var peerRuns: [Double]?
  }

  private struct ControllerReport: Encodable {
    var what: String
    /// Of a run with the narrower network.
    var seconds: Double
    var stepsPerSecond: Double
    var peakMemoryBytes: Int
    var ratio: Double?
    var cases: [Case]
  }

  /// Rounds of each run: a dozen updates.
  private static let controllerSteps = 256 * 32 * 12

  /// Training speed of the plain branching policy on one core, beside a fused PyTorch version with the same settings.
  func controller() throws {
    let python = try peer.map { try PeerPython(folder: URL(path: $0)) }
    var cases: [Case] = []
    var seconds: [Double] = []
    for width in [64, 256] {
      var ours: [Double] = []
      var peers: [Double] = []
      for run in 0..<runs {
        try checkInterruption()
        let result = try Self.train(width: width, seed: common.seedValue &+ UInt64(run))
        ours.append(Double(result.steps) / result.processorSeconds)
        if width == 64 { seconds.append(result.seconds) }
        Terminal.status(
          "width \(width), run \(run + 1) of \(runs): \(Format.number(ours[run], digits: 0)) rounds per second"
        )
        if let python { peers.append(try Self.peerSpeed(python, width: width)) }
      }
      cases.append(
        Case(
          width: width, stepsPerProcessorSecond: median(ours),
          peerStepsPerProcessorSecond: peers.isEmpty ? nil : median(peers),
          ratio: peers.isEmpty ? nil : median(zip(ours, peers).map { $0 / $1 }), runs: ours,
          peerRuns: peers.isEmpty ? nil : peers))
    }
    let middle = median(seconds)
    try common.report(
      ControllerReport(
        what: what, seconds: middle, stepsPerSecond: Double(Self.controllerSteps) / middle,
        peakMemoryBytes: ProcessMeasurement.peakMemoryBytes, ratio: cases[0].ratio, cases: cases),
      text: Format.table(
        [["rounds per second of one core", "FedPEAT", "PyTorch, fused", "ratio"]]
          + cases.map { item in
            [
              "width \(item.width)", Format.number(item.stepsPerProcessorSecond, digits: 0),
              item.peerStepsPerProcessorSecond.map { Format.number($0, digits: 0) } ?? "-",
              item.ratio.map { Format.number($0) } ?? "-",
            ]
          }))
  }

  private static func train(
    width: Int, seed: UInt64
  ) throws -> (steps: Int, seconds: Double, processorSeconds: Double) {
    var configuration = ControllerTrainingConfiguration()
    configuration.network = NetworkConfiguration(.flat, width: width)
    configuration.cloning = nil
    configuration.processes = 256
    configuration.seed = seed
    configuration.ppo.rounds = 32
    configuration.ppo.minibatch = 2048
    configuration.ppo.isGated = false
    // The first update warms up.
    configuration.steps = controllerSteps + 256 * 32
    let training = try ControllerTraining(configuration) { AnchorCell(count: $0, seed: $1) }
    var start: (time: ContinuousClock.Instant, processor: Double)?
    var end = (time: ContinuousClock.now, processor: 0.0)
    func note(_ event: ControllerTraining<AnchorCell>.Event) {
      end = (ContinuousClock.now, ProcessMeasurement.processorSeconds)
      if start == nil { start = end }
    }
    try training.run(shouldStop: { Interruption.isRequested }, onEvent: note)
    try checkInterruption()
    guard let start else { throw PeatError(.internalError, "The training made no update.") }
    return (
      controllerSteps, (end.time - start.time) / .seconds(1), end.processor - start.processor
    )
  }

  /// What the peer's script measured.
  private static func peerSpeed(_ python: PeerPython, width: Int) throws -> Double {
    let script = python.executable.deletingLastPathComponent().appendingPathComponent("peer_ppo.py")
    guard FileManager.default.fileExists(atPath: script.path) else {
      throw PeatError.inputOutput("There is no '\(script.path)' to compare with.")
    }
    let words = try python.run([
      script.path, "fused", "--envs", "256", "--nsteps", "32", "--mb", "2048", "--h", "\(width)",
      "--steps", "\(controllerSteps)", "--threads", "1",
    ])
    // {"peer": "fused", …, "sps_cpu": 24983.1, …}
    guard let place = words.firstIndex(of: "\"sps_cpu\":"), place + 1 < words.count,
      let speed = Double(words[place + 1].trimmingCharacters(in: CharacterSet(charactersIn: ",}")))
    else { throw python.noFigures }
    return speed
  }
}
