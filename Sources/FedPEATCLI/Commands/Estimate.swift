import ArgumentParser
import FedPEAT
import Foundation

struct Estimate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What a run would cost, before anything is spent.",
    discussion: """
      Example: fedpeat estimate run.yaml --edge pedestrian --deadline 3600

      The run file names an edge: what emulators cost (calibrate measures it), what devices there are, and the cell they move in. \
      The run is played many times there by the learning model; nothing is tuned and nothing is sent. Where the edge's emulators \
      are not the run's, what they cost follows from their shapes.
      """)

  @Argument(help: "A run file.")
  var config: String?

  @OptionGroup var options: ForecastOptions

  @Option(help: "How many clients. (default: \(RunConfiguration().clients))")
  var clients: Int?

  @Option(help: "Seconds that the whole run may take; no probability if not given.")
  var deadline: Double?

  @Option(help: "Simulated runs to estimate from.")
  var runs = 64

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (1...100_000).contains(runs) else {
      throw ValidationError("--runs is \(runs); it must be between 1 and 100000.")
    }
    if let deadline, !(deadline > 0 && deadline.isFinite) {
      throw ValidationError("--deadline is \(deadline); it must be above 0 seconds.")
    }
  }

  struct Report: Encodable {
    var planner: String
    /// Whether the emulators' costs were measured by calibrate; else they follow from their shapes.
    var isMeasured: Bool
    /// Why the estimate should not be trusted far, in words.
    var cautions: [String]
    var estimate: EdgeEstimate
  }

  func run() async throws {
    var overrides = options.overrides(common)
    if let clients { overrides["clients"] = .integer(clients) }
    let configuration = try RunConfiguration.read(
      from: config.map(URL.init(path:)), flags: overrides)
    let forecast = try RunForecast(configuration)
    forecast.cautions.forEach(Terminal.caution)
    Terminal.status("playing \(runs) runs …")
    let environment = try forecast.play(runs: runs) { Interruption.isRequested }
    try checkInterruption()
    let estimate = EdgeEstimate(environment, deadline: deadline)
    try common.report(
      Report(
        planner: configuration.planner, isMeasured: forecast.isMeasured,
        cautions: forecast.cautions, estimate: estimate),
      text: Self.text(estimate, forecast))
  }

  private static func text(_ estimate: EdgeEstimate, _ forecast: RunForecast) -> String {
    func range(_ value: EdgeEstimate.Range, _ show: (Double) -> String) -> String {
      value.low == value.high
        ? show(value.mean)
        : "\(show(value.median)) (90 %: \(show(value.low)) to \(show(value.high)); mean \(show(value.mean)))"
    }
    func bytes(_ value: Double) -> String { Format.bytes(Int(rounding: value)) }
    var rows = [
      ["\(estimate.rounds) rounds take", range(estimate.seconds, Format.seconds)],
      ["down, all devices", range(estimate.bytesDown, bytes)],
      ["up, all devices", range(estimate.bytesUp, bytes)],
      ["energy", range(estimate.joules) { Format.figures($0) + " J" }],
      ["gap left", range(estimate.gap, Format.share)],
    ]
    if let reached = estimate.secondsToTarget {
      rows.append(["to the target", range(reached, Format.seconds)])
    }
    if estimate.lostRounds > 0 {
      rows.append(["rounds played again", "\(Format.number(estimate.lostRounds, digits: 1)) a run"])
    }
    if estimate.endsEarly > 0 {
      rows.append(["runs that end early", Format.percent(estimate.endsEarly)])
    }
    if let share = estimate.meetsDeadline {
      rows.append(["done by the deadline", Format.share(share)])
    }
    if let share = estimate.reachesTargetByDeadline {
      rows.append(["at the target by the deadline", Format.share(share)])
    }
    var table = [
      ["device", "of them", "down", "up", "at work", "J", "battery", "memory", "exposure"]
    ]
    for own in estimate.classes {
      table.append([
        own.name, Format.number(own.devices, digits: 1), bytes(own.bytesDown), bytes(own.bytesUp),
        Format.seconds(own.seconds), Format.figures(own.joules),
        own.batteryShare.map(Format.share) ?? "mains", bytes(own.memory),
        "\(Format.share(own.exposure)), at most \(Format.share(own.largestExposure))",
      ])
    }
    let nobody =
      estimate.bytesUp.high > 0
      ? "" : "\n\nNo update ever arrived: look at the edge's deadline, memory, dropout and battery."
    let costs = forecast.isMeasured ? "measured" : "from their shapes"
    rows.append([
      "the emulators' costs are",
      forecast.cautions.isEmpty
        ? costs
        : "\(costs); \(forecast.cautions.count == 1 ? "a caution" : "\(forecast.cautions.count) cautions")",
    ])
    return Format.table(rows) + "\n\n" + Format.table(table) + nobody
  }
}
