import FedPEAT
import Foundation

/// Where planners plan: the environment that others were measured in, or a simulated edge.
enum PlanningWorld {
  case anchor
  case edge(EdgeConfiguration)

  static let help: String =
    "Where to plan: pedestrian, vehicular or dense (simulated cells), the same with -uncertain at the end (what is believed of them is not quite so: pedestrian-uncertain), an edge file such as calibrate writes, or anchor, the ten-device environment that other learners were measured in."

  /// - Throws: `usage` where the word is neither a world nor a file; `badData` where the file makes no sense.
  init(_ word: String) throws {
    if word == "anchor" {
      self = .anchor
    } else {
      self = .edge(try EdgeFile.read(word, others: ["anchor"]))
    }
  }

  /// Names the environment with all that defines it.
  var fingerprint: String {
    get throws {
      switch self {
      case .anchor: "anchor"
      case .edge(let configuration):
        Digest(of: try ConfigurationReader.yaml(configuration)).hex
      }
    }
  }

  var devices: Int {
    switch self {
    case .anchor: AnchorCell.deviceCount
    case .edge(let configuration): configuration.devices
    }
  }

  var plannerNames: [String] {
    switch self {
    case .anchor: AnchorCell.policyNames
    case .edge: EdgePlanners.names
    }
  }

  /// Whether a planner needs no file.
  func knows(_ planner: String) throws -> Bool {
    switch self {
    case .anchor: plannerNames.contains(planner)
    case .edge: try plannerNames.contains(planner) || Planners.fixedLevel(planner) != nil
    }
  }

  /// Throws `usage` where a planner would take hours for a decision here, or names an emulator that is not there.
  func check(_ planner: String) throws {
    if case .edge(let configuration) = self {
      try EdgePlanners.check(
        planner, devices: configuration.devices, levels: configuration.levels.count)
    }
  }

  /// What a controller must be made for.
  func shape() throws -> ControlShape {
    switch self {
    case .anchor: AnchorCell(count: 1, seed: 0).shape
    case .edge(let configuration):
      try EdgeEnvironment(configuration, cells: 1, seed: 0).shape
    }
  }

  /// Does something with the kind of environment that it is.
  func open<Result>(_ body: some WorldVisitor<Result>) throws -> Result {
    switch self {
    case .anchor:
      try body.visit(
        make: { AnchorCell(count: $0, seed: $1) },
        planner: { try AnchorCell.policy(named: $0, seed: $1) })
    case .edge(let configuration):
      try body.visit(
        make: { try EdgeEnvironment(configuration, cells: $0, seed: $1) },
        planner: { try EdgeEnvironment.planner(named: $0, seed: $1) })
    }
  }
}

/// Work that is the same in every world.
protocol WorldVisitor<Result> {
  associatedtype Result

  /// - Parameters:
  ///   - make: an environment of so many processes, by seed.
  ///   - planner: a planner by name and seed.
  func visit<Environment: ControlEnvironment>(
    make: @escaping (Int, UInt64) throws -> Environment,
    planner: (String, UInt64) throws -> any ControlPolicy<Environment>
  ) throws -> Result
}

extension EdgeConfiguration {
  /// Says why what was measured for it should not be trusted far, where there is such a reason.
  func tellCautions(named name: String) { cautions(named: name).forEach(Terminal.caution) }
}
