import ArgumentParser
import FedPEAT
import Foundation

/// What emulators are tried on and how: a task, how an adapter is tuned on it, and what attackers have.
struct TrialOptions: ParsableArguments {
  @Option(help: "Texts like those of devices, to tune on.")
  var task: String

  @Option(help: "Texts of the same kind, to measure on.")
  var heldOut: String

  @Option(
    help:
      "An attacker's own texts, such as those of one device; if not given, attack takes those of --task, compare-emulators none."
  )
  var own: String?

  @Option(
    help:
      "Texts like the attacker's own, to measure what it has for itself; only --held-out is measured on if not given."
  )
  var ownHeldOut: String?

  @Option(
    name: .customLong("public"),
    help: "Public text that an attacker has; attacks have none if not given.")
  var publicText: String?

  @Option(help: "Tokens of public text that an attacker uses, at most; it holds a tenth back.")
  var publicTokens = MarginReport.Attack().tokens

  @Option(help: "How often an attacker goes over them.")
  var publicEpochs = MarginReport.Attack().epochs

  @Option(help: "Learning rates that an attacker tries on them, one after the other.")
  var publicRate = MarginReport.Attack().learningRates.map { "\($0)" }.joined(separator: ",")

  @Flag(
    inversion: .prefixedNo,
    help:
      "Have an attacker also try what comes of public text when the emulator's middle was first filled up to as many blocks as the model has there."
  )
  var grow = MarginReport.Attack().grows

  @Option(help: "Steps that an attacker makes on its own texts, at most.")
  var ownSteps = MarginReport.Attack().ownSteps

  @Option(help: "How often all is done, each time with another seed.")
  var runs = 1

  @Option(help: "Steps of tuning on the task.")
  var steps = TuningTrial.Settings().steps

  @Option(help: "Sequences per step.")
  var batch = TuningTrial.Settings().batch

  @Option(help: "Input tokens per window; 256, or the model's longest, if not given.")
  var context: Int?

  @Option(
    help:
      "Learning rate. A run tunes with \(RunConfiguration().learningRate) unless it is told otherwise."
  )
  var learningRate = TuningTrial.Settings().learningRate

  @Option(help: "Rank of the LoRA adapter.")
  var rank = TuningTrial.Settings().rank

  @Option(help: "LoRA's alpha.")
  var alpha = TuningTrial.Settings().alpha

  @Option(
    help:
      "Noise on the states behind an emulator's middle while an adapter is tuned, as a share of their root mean square. A run has none unless it is told otherwise."
  )
  var stateNoise = TuningTrial.Settings().stateNoise

  @Option(
    help:
      "How documents are laid into windows: stream, packed or documents; packed where there are prompts, else stream, if not given."
  )
  var layout: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Begin each document with the begin token; as the tokenizer does if not given.")
  var bos: Bool?

  func validate() throws {
    guard (1...100).contains(runs) else {
      throw ValidationError("--runs is \(runs); it must be between 1 and 100.")
    }
    if ownHeldOut != nil, own == nil {
      throw ValidationError(
        "--own-held-out is about an attacker's own texts; name them with --own.")
    }
  }

  /// What attackers do; throws `usage` where it makes no sense.
  func attack() throws -> MarginReport.Attack {
    var attack = MarginReport.Attack()
    attack.tokens = publicTokens
    attack.epochs = publicEpochs
    attack.learningRates = try publicRate.split(separator: ",", omittingEmptySubsequences: false)
      .map { word in
        guard let rate = Float(word.trimmingCharacters(in: .whitespaces)) else {
          throw PeatError.usage(
            "--public-rate needs learning rates, such as 1e-3,1e-2; found '\(publicRate)'.")
        }
        return rate
      }
    attack.grows = grow
    attack.ownSteps = ownSteps
    try attack.validate()
    return attack
  }

  /// The texts of these options, and the digests of their files by what they are for.
  func texts() throws -> (EmulatorComparison.Texts, [String: Digest]) {
    var digests: [String: Digest] = [:]
    func read(_ file: String?, _ name: String) throws -> [Document] {
      guard let file else { return [] }
      let url = URL(path: file)
      let documents = try DocumentReader.read(url)
      digests[name] = try Digest(ofDataAt: url)
      return documents
    }
    var texts = EmulatorComparison.Texts(
      task: try read(task, "task"), heldOut: try read(heldOut, "heldOut"))
    texts.own = try read(own, "own")
    texts.ownHeldOut = try read(ownHeldOut, "ownHeldOut")
    texts.publicTexts = try read(publicText, "public")
    for (measured, tuned) in [("heldOut", "task"), ("heldOut", "own"), ("ownHeldOut", "own")]
    where digests[measured] != nil && digests[measured] == digests[tuned] {
      Terminal.caution(
        "the text that is measured on (\(measured)) is one that is tuned on (\(tuned)): what comes out says nothing of other texts"
      )
    }
    return (texts, digests)
  }

  func settings(
    _ common: CommonOptions, documents: [Document], longest: Int, seed: UInt64
  ) throws -> TuningTrial.Settings {
    var settings = TuningTrial.Settings()
    settings.steps = steps
    settings.batch = batch
    settings.context = context ?? min(settings.context, longest)
    settings.learningRate = learningRate
    settings.rank = rank
    settings.alpha = alpha
    settings.stateNoise = stateNoise
    settings.layout =
      try layout.map(LocalTuning.Layout.init(typed:))
      ?? (documents.contains(where: \.hasGivenPart) ? .packed : .stream)
    settings.bos = bos
    settings.seed = seed
    settings.threads = common.threadCount
    try settings.validate(contextLength: longest)
    return settings
  }

  static func tell(_ part: String, _ progress: Trainer.Progress) {
    Terminal.status(
      "\(part): step \(progress.report.step) of \(progress.steps)  loss \(Format.number(progress.report.loss, digits: 4))  "
        + "\(Format.number(progress.rate, digits: 0)) \(progress.unit.perSecond)  \(Format.time(progress.timeLeft)) left"
    )
  }
}

extension LocalTuning.Layout {
  /// A word as a person types it.
  init(typed word: String) throws {
    guard let layout = LocalTuning.Layout(rawValue: word) else {
      throw PeatError.usage(
        "Unknown layout '\(word)'. "
          + suggestion(for: word, among: LocalTuning.Layout.allCases.map(\.rawValue)))
    }
    self = layout
  }
}
