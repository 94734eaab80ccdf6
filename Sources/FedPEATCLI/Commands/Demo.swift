import ArgumentParser
import FedPEAT
import Foundation

struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "See the whole story in a few minutes: a real model, a real federation.",
    discussion: """
      Examples: fedpeat demo
                fedpeat demo --model models/stories260K --data input.txt --clients-by speaker

      Without a model it writes its own text (a small world of short reports by people with different habits) and \
      pretrains a small model on the owner's part. Then one coordinator and four clients, each a process of its own, \
      tune an adapter together over gRPC.
      """)

  @Option(
    help:
      "A model folder, together with --data and --clients-by; the demo makes a model if not given.")
  var model: String?

  @Option(
    help:
      "The clients' texts: JSON lines, a folder of texts, or a play script; the demo writes them if not given."
  )
  var data: String?

  @Option(
    help:
      "The field of --data that says whose a document is, such as speaker; not needed if --data is not given."
  )
  var clientsBy: String?

  @Option(help: "How many clients.")
  var clients = 4

  @Option(help: "Emulator recipe; half of the middle's blocks are kept if not given.")
  var recipe: String?

  @Option(help: "Rounds.")
  var rounds = RunConfiguration().rounds

  @Option(help: "Local steps per round.")
  var localSteps = RunConfiguration().localSteps

  @Option(
    help:
      "Input tokens per window; \(DemoSettings.context), or with --model \(RunConfiguration.usualContext) or the model's longest, if not given."
  )
  var context: Int?

  @Option(help: "Learning rate of the adapter.")
  var learningRate = RunConfiguration().learningRate

  @Option(help: "Keep model, data and results in this folder; they are deleted if not given.")
  var keep: String?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    let given = [model, data, clientsBy].compactMap { $0 }.count
    guard given == 0 || given == 3 else {
      throw ValidationError("Give --model, --data and --clients-by together, or none of them.")
    }
    if clients < 1 || clients > 64 {
      throw ValidationError("--clients is \(clients); it must be between 1 and 64.")
    }
  }

  func run() async throws {
    let work: WorkFolder
    if let keep {
      // Nothing of somebody else's is mixed with the demo's files.
      try AtomicOutput.checkContents(of: URL(path: keep)) { _ in false }
      work = try WorkFolder(URL(path: keep))
    } else {
      work = try WorkFolder(temporary: "demo")
    }
    defer { work.remove() }
    let stage = try prepare(work.url)
    let result = try await DemoRun(stage, folder: work.url, common: common).run()
    try common.report(result, text: result.text(stage) + (keep.map { kept($0, stage) } ?? ""))
  }

  /// What lies in the folder that stays, and how plug-in is measured again.
  private func kept(_ folder: String, _ stage: DemoStage) -> String {
    let settings = stage.configuration
    let way =
      (settings.evaluateDocuments ? " --documents" : "") + (settings.bos == true ? " --bos" : "")
    return """


      '\(folder)' keeps the run file, each client's folder, evaluation.jsonl and the result. Plug-in, measured again:
      fedpeat evaluate \(folder)/result --text \(folder)/evaluation.jsonl --context \(settings.context)\(way)
      """
  }

  /// The model and the texts that the demo is about.
  private func prepare(_ folder: URL) throws -> DemoStage {
    if let model, let data, let clientsBy {
      return try DemoStage(
        model: URL(model: model), data: URL(path: data), clientsBy: clientsBy, clients: clients,
        settings: self)
    }
    return try DemoStage(world: folder, clients: clients, settings: self)
  }
}
