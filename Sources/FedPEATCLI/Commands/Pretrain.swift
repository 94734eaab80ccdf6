import ArgumentParser
import FedPEAT
import Foundation

struct Pretrain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a small foundation model of your own from text or pictures.",
    discussion: """
      Example: fedpeat pretrain --text story.txt --out model --blocks 8 --hidden-size 128
      Example: fedpeat pretrain --images digits/train-images-idx3-ubyte --family mixer --out model

      Of text: learns a byte-level vocabulary, then trains a Llama-type model from scratch until its loss on held-out text levels \
      off. Of pictures, a folder for each class or an idx file as MNIST is: trains a ViT or an MLP-Mixer to tell the classes apart, or a model of another shape \
      that --model-config says. transformers loads the result, a mixer timm.
      """)

  @Option(help: "Text, a JSON array, or JSON lines; pictures are learned from if not given.")
  var text: String?

  @Option(
    help:
      "Pictures: a folder with a folder for each class, or an idx file; text is learned from if not given."
  )
  var images: String?

  @Option(help: "The folder to write.")
  var out: String

  @Option(
    help: ArgumentHelp(
      "Of pictures, the model: \(families). (default: \(PicturePretrainingConfiguration().family.rawValue))",
      valueName: "family"))
  var family: String?

  @Option(
    help:
      "Of pictures: a config.json of the model's shape, of any family of pictures, in the place of the options for it (not given)."
  )
  var modelConfig: String?

  @Option(help: "Of text: tokens in the vocabulary. (default: \(texts.vocabularySize))")
  var vocabulary: Int?

  @Option(
    help: "Of pictures: the model's pictures' side in pixels; the first picture's if not given.")
  var imageSize: Int?

  @Option(
    help: "Of pictures: a patch's side in pixels. (default: \(pictures.patchSize))")
  var patchSize: Int?

  @Option(help: "Blocks. (default: \(texts.blocks))")
  var blocks: Int?

  @Option(help: "Width of the hidden states. (default: \(texts.hiddenSize))")
  var hiddenSize: Int?

  @Option(help: "Attention heads; a mixer has none. (default: \(texts.heads))")
  var heads: Int?

  @Option(help: "Of text: key/value heads. (default: \(texts.keyValueHeads))")
  var keyValueHeads: Int?

  @Option(
    help:
      "Width of the feed-forward layer; of text 8/3 of the hidden size, of pictures 4 times, if not given."
  )
  var feedForwardSize: Int?

  @Option(
    help: "Of a mixer: width of the layer that mixes tokens; half the hidden size if not given.")
  var tokenMixingSize: Int?

  @Option(
    help:
      "Of text: input tokens per window, and the longest text the model reads. (default: \(texts.context))"
  )
  var context: Int?

  @Option(
    help:
      "Windows, or pictures, per step; of text \(texts.batch), of pictures \(pictures.batch), if not given."
  )
  var batch: Int?

  @Option(
    help:
      "Learning rate; of text \(texts.learningRate), of pictures \(pictures.learningRate), if not given."
  )
  var learningRate: Float?

  @Option(help: "Steps at most.")
  var steps = 2000

  @Option(
    help: "Save the state every so many steps; when interrupted it is saved anyway (not given).")
  var saveEvery: Int?

  @Flag(help: "Go on with an interrupted run of the same options.")
  var resume = false

  @OptionGroup var streaming: StreamOptions

  @OptionGroup var common: CommonOptions

  private static let texts = PretrainingConfiguration()
  private static let pictures = PicturePretrainingConfiguration()
  private static let families = PicturePretrainingConfiguration.Family.allCases.map(\.rawValue)
    .joined(separator: " or ")

  func validate() throws {
    guard (text == nil) != (images == nil) else {
      throw ValidationError(
        text == nil
          ? "Give --text FILE or --images PATH to learn from."
          : "Give --text or --images, not both.")
    }
    let ofPictures: [(String, Bool)] = [
      ("--family", family != nil), ("--model-config", modelConfig != nil),
      ("--image-size", imageSize != nil), ("--patch-size", patchSize != nil),
      ("--token-mixing-size", tokenMixingSize != nil),
    ]
    let ofTexts: [(String, Bool)] = [
      ("--vocabulary", vocabulary != nil), ("--key-value-heads", keyValueHeads != nil),
      ("--context", context != nil),
    ]
    if let option = (text == nil ? ofTexts : ofPictures).first(where: \.1)?.0 {
      throw ValidationError(
        "\(option) is about \(text == nil ? "text" : "pictures"); this model learns from \(text == nil ? "pictures" : "text")."
      )
    }
    if modelConfig != nil {
      let ofShape: [(String, Bool)] = [
        ("--family", family != nil), ("--image-size", imageSize != nil),
        ("--patch-size", patchSize != nil), ("--blocks", blocks != nil),
        ("--hidden-size", hiddenSize != nil), ("--heads", heads != nil),
        ("--feed-forward-size", feedForwardSize != nil),
        ("--token-mixing-size", tokenMixingSize != nil),
      ]
      if let option = ofShape.first(where: \.1)?.0 {
        throw ValidationError("\(option) is said by the file of --model-config already.")
      }
    }
    if let family, PicturePretrainingConfiguration.Family(rawValue: family) == nil {
      throw ValidationError("Unknown family '\(family)'; there are \(Self.families).")
    }
    if family != PicturePretrainingConfiguration.Family.mixer.rawValue, tokenMixingSize != nil {
      throw ValidationError("--token-mixing-size is of --family mixer.")
    }
    if let saveEvery, saveEvery < 1 {
      throw ValidationError("--save-every is \(saveEvery); it must be at least 1.")
    }
  }

  func run() async throws {
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target)
    let state = try PretrainingState.read(in: target, resume: resume)
    if let state { Terminal.note("pretraining  goes on at step \(state.step)") }
    let saving = PretrainingSaving(folder: target, every: saveEvery)
    if let text {
      try learn(text: URL(path: text), target, state, saving)
    } else if let images {
      try learn(images: URL(path: images), target, state, saving)
    }
  }

  private func learn(
    text: URL, _ target: URL, _ state: PretrainingState?, _ saving: PretrainingSaving
  ) throws {
    let usual = Self.texts
    let width = hiddenSize ?? usual.hiddenSize
    let configuration = PretrainingConfiguration(
      vocabularySize: vocabulary ?? usual.vocabularySize, blocks: blocks ?? usual.blocks,
      hiddenSize: width, heads: heads ?? usual.heads,
      keyValueHeads: keyValueHeads ?? usual.keyValueHeads,
      feedForwardSize: feedForwardSize ?? max(8, (min(width, 1 << 20) * 8 / 3 + 7) / 8 * 8),
      context: context ?? usual.context, batch: batch ?? usual.batch,
      learningRate: learningRate ?? usual.learningRate, maximumSteps: steps,
      seed: common.seedValue, threads: common.threadCount)
    try configuration.validate()
    let pretraining =
      try streaming.isFor(text)
      ? try Pretraining(streaming: text, configuration)
      : try Pretraining(try DocumentReader.read(text), configuration)
    let report = try pretraining.run(
      resuming: state, saving: saving, shouldStop: { Interruption.isRequested },
      onEvent: Pretrain.tell)
    try pretraining.write(to: target)
    try common.report(
      report,
      text: Format.table([
        ["written to", out], ["parameters", Format.count(report.parameters)],
        ["held-out perplexity", Format.number(report.perplexity)],
        ["steps", Self.steps(report.steps, report.levelledOff)],
        ["tokens/s", Format.number(report.tokensPerSecond, digits: 0)],
      ]))
  }

  private func learn(
    images: URL, _ target: URL, _ state: PretrainingState?, _ saving: PretrainingSaving
  ) throws {
    let usual = Self.pictures
    let configuration = PicturePretrainingConfiguration(
      family: family.flatMap(PicturePretrainingConfiguration.Family.init) ?? usual.family,
      imageSize: imageSize, patchSize: patchSize ?? usual.patchSize,
      blocks: blocks ?? usual.blocks, hiddenSize: hiddenSize ?? usual.hiddenSize,
      heads: heads ?? usual.heads, feedForwardSize: feedForwardSize,
      tokenMixingSize: tokenMixingSize, batch: batch ?? usual.batch,
      learningRate: learningRate ?? usual.learningRate, maximumSteps: steps,
      seed: common.seedValue, threads: common.threadCount)
    try configuration.validate()
    let shape = try modelConfig.map { try JSONFile.read(JSONValue.self, from: URL(path: $0)) }
    DataCautions.tell(images, ofPictures: true, ofClasses: true)
    let pretraining = try PicturePretraining(
      try LabelledImages(images).pictures(), configuration, shape: shape)
    let report = try pretraining.run(
      resuming: state, saving: saving, shouldStop: { Interruption.isRequested },
      onEvent: { Pretrain.tell($0, unit: "pictures") })
    try pretraining.write(to: target)
    try common.report(
      report,
      text: Format.table([
        ["written to", out], ["parameters", Format.count(report.parameters)],
        ["held-out accuracy", Format.percent(report.accuracy)],
        ["held-out loss", Format.number(report.loss, digits: 4)],
        ["steps", Self.steps(report.steps, report.levelledOff)],
        ["pictures/s", Format.number(report.picturesPerSecond, digits: 0)],
      ]))
  }

  private static func steps(_ steps: Int, _ levelledOff: Bool) -> String {
    "\(steps)\(levelledOff ? "" : " (the loss had not levelled off)")"
  }

  static func tell(_ event: Pretraining.Event) { tell(event, unit: "tokens") }

  private static func tell(_ event: Pretraining.Event, unit: String) {
    switch event {
    case .tokenizer(let size, let tokens):
      Terminal.note(
        "vocabulary   \(Format.count(size)) tokens; the text has \(Format.count(tokens))")
    case .pictures(let classes, let training, let heldOut):
      Terminal.note(
        "pictures     \(Format.count(training)) of \(classes) classes to learn from, \(Format.count(heldOut)) held out"
      )
    case .step(let step, let steps, let loss, let rate, let left):
      Terminal.status(
        "pretraining: step \(step) of at most \(steps)  loss \(Format.number(loss, digits: 3))  "
          + "\(Format.number(rate, digits: 0)) \(unit)/s  at most \(Format.time(left)) left")
    case .heldOut(let step, let loss):
      Terminal.note("pretraining  step \(step): held-out loss \(Format.number(loss, digits: 3))")
    case .levelledOff(let step, let share, let steps):
      Terminal.note(
        "pretraining  levelled off: the held-out loss fell by less than \(Format.percent(share)) in the last \(steps) "
          + "steps (step \(step)); the rate now decays")
    case .wentBack(let step, let loss):
      Terminal.note(
        "pretraining  the held-out loss had risen, so the model is the one of step \(step) (\(Format.number(loss, digits: 3))): "
          + "what it learns from is little for this model. Give more, or make the model smaller."
      )
    }
  }
}
