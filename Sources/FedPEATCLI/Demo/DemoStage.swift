import FedPEAT
import Foundation

/// What the demo is about: a model, the clients with their texts, and the text that is measured on.
struct DemoStage {
  var configuration: RunConfiguration
  var groups: [DocumentGroup]
  var evaluation: [Document]
  /// How the model came about, for the result.
  var modelStory: String
  /// The owner's own text, where there is one.
  var pretraining: Pretraining.Report?

  /// Real ones.
  init(model: URL, data: URL, clientsBy: String, clients: Int, settings: Demo) throws {
    var configuration = DemoStage.common(settings)
    configuration.model = model.standardizedFileURL.path
    configuration.data = data.standardizedFileURL.path
    configuration.clientsBy = clientsBy
    configuration.clients = clients
    let blocks = try Checkpoint(folder: model).configuration.blockCount
    configuration.emulators = [try DemoStage.recipe(settings, blocks: blocks, configuration)]
    let longest = try Checkpoint(folder: model).configuration.contextLength
    configuration.context = settings.context ?? min(configuration.context, longest)
    try configuration.validate()
    let parts = try ClientData(configuration)
    self.configuration = configuration
    groups = parts.groups
    evaluation = parts.evaluation
    modelStory = model.lastPathComponent
  }

  /// The demo's own: a world of reports, and a model pretrained on the owner's part of it.
  init(world folder: URL, clients: Int, settings: Demo) throws {
    let seed = settings.common.seedValue
    var configuration = DemoStage.common(settings)
    // Flags are checked before the long work; the model's place is known when it is there.
    configuration.model = folder.path
    configuration.clients = clients
    DemoSettings.apply(to: &configuration)
    configuration.emulators = [
      try DemoStage.recipe(settings, blocks: DemoSettings.blocks, configuration)
    ]
    if let context = settings.context { configuration.context = context }
    try configuration.validate()
    let world = ReportWorld(seed: seed)
    Terminal.note(
      "No model was given: the demo writes its own text and pretrains a small model on the owner's part."
    )
    let pretraining = try Pretraining(
      world.ownerReports(count: DemoSettings.ownerReports),
      DemoSettings.pretraining(seed: seed, threads: settings.common.threadCount))
    let report = try pretraining.run(
      shouldStop: { Interruption.isRequested }, onEvent: Pretrain.tell)
    let model = folder.appendingPathComponent("model")
    try pretraining.write(to: model)
    Terminal.note(
      "pretrained   \(Format.count(report.parameters)) parameters on \(Format.count(report.tokens)) tokens in "
        + "\(Format.time(.seconds(report.seconds))); held-out perplexity \(Format.number(report.perplexity))"
    )
    groups = (0..<clients).map { number in
      let person = world.person(number)
      return DocumentGroup(
        name: "client-\(number + 1)",
        documents: world.reports(by: person, count: DemoSettings.reportsPerPerson))
    }
    evaluation = (0..<clients).flatMap {
      world.heldOutReports(by: world.person($0), count: DemoSettings.heldOutPerPerson)
    }
    configuration.model = model.path
    self.configuration = configuration
    self.pretraining = report
    modelStory = "pretrained by this demo on its own text"
  }

  private static func common(_ settings: Demo) -> RunConfiguration {
    var configuration = RunConfiguration()
    configuration.seed = settings.common.seedValue
    configuration.rounds = settings.rounds
    configuration.localSteps = settings.localSteps
    configuration.learningRate = settings.learningRate
    configuration.minimumClients = settings.clients
    // Who comes first is chance; a run waits for all, so that it can be repeated.
    configuration.fullModelAdapter = true
    configuration.endBlocksThroughFullMiddle = true
    configuration.threads = settings.common.threads
    return configuration
  }

  /// The given recipe, or layer drop to half of the middle, rounded up.
  private static func recipe(
    _ settings: Demo, blocks: Int, _ configuration: RunConfiguration
  ) throws -> String {
    if let recipe = settings.recipe { return recipe }
    let split = try ModelSplit(bottom: configuration.bottom, top: configuration.top, of: blocks)
    return "layer-drop=\((split.middle.count + 1) / 2)"
  }
}

/// The sizes of the demo's own world, chosen so that all of it takes less than four minutes on two cores.
enum DemoSettings {
  static let blocks = 8
  static let ownerReports = 6000
  static let reportsPerPerson = 160
  static let heldOutPerPerson = 40
  static let context = 160

  static func pretraining(seed: UInt64, threads: Int) -> PretrainingConfiguration {
    PretrainingConfiguration(
      vocabularySize: 512, blocks: blocks, hiddenSize: 96, heads: 3, keyValueHeads: 1,
      feedForwardSize: 256, context: context, batch: 16, learningRate: 4e-3, warmUpSteps: 30,
      maximumSteps: 800, measureEvery: 40, levelShare: 0.06, patience: 2, seed: seed,
      threads: threads)
  }

  static func apply(to configuration: inout RunConfiguration) {
    configuration.bottom = 2
    configuration.top = 2
    configuration.layout = .packed
    configuration.bos = true
    configuration.evaluateDocuments = true
    configuration.context = context
  }
}
