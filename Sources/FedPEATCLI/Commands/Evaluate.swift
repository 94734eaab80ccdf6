import ArgumentParser
import FedPEAT
import Foundation

struct Evaluate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure a model: perplexity on a text, or how often it finds the right answer.",
    discussion: """
      Example: fedpeat evaluate models/stories260K --text story.txt --context 256

      Perplexity is taken over windows of --context input tokens and as many predictions, each starting with the last \
      token of the one before; what is left at the end and fills no window is not measured. With --documents each \
      document is measured by itself, cut to its first --context tokens.
      """)

  @Argument(help: "A model or emulator: its folder, or its name on the Hub; or what plug-in wrote.")
  var model: String

  @Option(help: "Text, a JSON array, or JSON lines; perplexity is not measured if not given.")
  var text: String?

  @Option(
    help:
      "Multiple-choice questions: JSON or JSON lines with prompt, choices and answer; none are asked if not given."
  )
  var choices: String?

  @Option(
    help:
      "Labelled texts (CSV, TSV or JSON lines): each label is scored as the text's continuation; none are if not given."
  )
  var labels: String?

  @Option(help: "An adapter folder to put into the model; the model stays as it is if not given.")
  var adapter: String?

  @Option(help: "Input tokens per window; the model's longest, at most 2048, if not given.")
  var context: Int?

  @Option(help: "How far a window is from the one before; the context if not given.")
  var stride: Int?

  @Flag(help: "Measure each document by itself.")
  var documents = false

  @Flag(
    inversion: .prefixedNo,
    help: "Begin each text with the begin token; as the tokenizer does if not given.")
  var bos: Bool?

  @Option(
    help: "Only the first N documents, questions or, of a single text, windows; all if not given.")
  var limit: Int?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard [text, choices, labels].compactMap({ $0 }).count == 1 else {
      throw ValidationError("Give one of --text FILE, --choices FILE and --labels FILE.")
    }
    if let limit, limit < 1 { throw ValidationError("--limit is \(limit); it must be at least 1.") }
  }

  func run() async throws {
    let loaded = try LoadedModel(URL(model: model), adapter: adapter.map(URL.init(path:)))
    if let labels, loaded.model.head?.layout.labels != nil {
      return try told(loaded, loaded.model.configuration.documents(in: URL(path: labels)))
    }
    let addBegin = try bos ?? loaded.tokenizer.addsBeginToken
    if let text {
      try perplexity(loaded, URL(path: text), addBegin)
    } else if let choices {
      try answers(loaded, try ChoiceQuestion.read(URL(path: choices)), addBegin)
    } else if let labels {
      let texts = try LabelledText.read(URL(path: labels))
      let known = Set(texts.map(\.label)).sorted()
      let questions = texts.compactMap { item in
        known.firstIndex(of: item.label).map {
          ChoiceQuestion(prompt: item.text, choices: known, answer: $0)
        }
      }
      try classes(loaded, questions, known, addBegin)
    }
  }

  /// By the model's own head of classes.
  private func told(_ loaded: LoadedModel, _ documents: [Document]) throws {
    let data = try TokenDataset.make(
      limit.map { Array(documents.prefix($0)) } ?? documents, reader: loaded.reader,
      for: loaded.model.configuration, layout: .documents,
      context: context ?? min(loaded.model.contextLength, 2048), addBegin: nil)
    let report = try ClassificationMeasure(threads: common.threadCount).report(
      loaded.model, data, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("text \(done) of \(count)") })
    try common.report(
      report,
      text: Format.table([
        ["accuracy", Format.percent(report.accuracy)],
        ["macro-F1", Format.number(report.macroF1, digits: 4)],
        ["examples", Format.count(report.examples)],
        ["classes", Format.count(report.labels.count)],
      ]))
  }

  private func perplexity(_ loaded: LoadedModel, _ file: URL, _ addBegin: Bool) throws {
    let texts = try DocumentReader.read(file)
    let measure = try PerplexityMeasure(
      context: context ?? min(loaded.model.contextLength, 2048), stride: stride,
      threads: common.threadCount, model: loaded.model)
    let clock = ContinuousClock.now
    let report = try measure.report(
      loaded.model, tokenizer: try loaded.tokenizer, documents: texts, asDocuments: documents,
      addBegin: addBegin, limit: limit, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in
        let seconds = (ContinuousClock.now - clock).seconds
        let left = Duration.seconds(seconds / Double(done) * Double(count - done))
        Terminal.status("window \(done) of \(count), \(Format.time(left)) left")
      })
    try common.report(
      report,
      text: Format.table([
        ["perplexity", Format.number(report.perplexity, digits: 4)],
        ["loss (nats per token)", Format.number(report.loss, digits: 4)],
        ["bits per byte", Format.number(report.bitsPerByte, digits: 4)],
        ["tokens", Format.count(report.tokens)],
      ]))
  }

  private func answers(
    _ loaded: LoadedModel, _ questions: [ChoiceQuestion], _ addBegin: Bool
  ) throws {
    let chosen = limit.map { Array(questions.prefix($0)) } ?? questions
    let measure = try MultipleChoiceMeasure(
      loaded.model, tokenizer: try loaded.tokenizer, addBegin: addBegin)
    let report = try measure.report(
      chosen, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("question \(done) of \(count)") })
    try common.report(
      report,
      text: Format.table([
        ["accuracy", Format.percent(report.accuracy)],
        ["accuracy by length-normalised score", Format.percent(report.normalizedAccuracy)],
        ["questions", Format.count(report.questions)],
      ]))
  }

  /// What `--labels` gives: choices that are classes.
  struct ClassReport: Encodable {
    var accuracy: Double
    var normalizedAccuracy: Double
    var questions: Int
    var macroF1: Double
    var labels: [ClassificationReport.Label]
    /// A row for each class, a column for each that was predicted.
    var confusion: [[Int]]
  }

  private func classes(
    _ loaded: LoadedModel, _ questions: [ChoiceQuestion], _ labels: [String], _ addBegin: Bool
  ) throws {
    let chosen = limit.map { Array(questions.prefix($0)) } ?? questions
    let measure = try MultipleChoiceMeasure(
      loaded.model, tokenizer: try loaded.tokenizer, addBegin: addBegin)
    let answers = try measure.answers(
      to: chosen, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("text \(done) of \(count)") })
    let choices = ChoiceReport(answers, to: chosen)
    let report = try ClassificationReport(
      zip(chosen, answers).map { ($0.answer, $1.choice) }, labels: labels)
    try common.report(
      ClassReport(
        accuracy: report.accuracy, normalizedAccuracy: choices.normalizedAccuracy,
        questions: report.examples, macroF1: report.macroF1, labels: report.labels,
        confusion: report.confusion),
      text: Format.table([
        ["accuracy", Format.percent(report.accuracy)],
        ["accuracy by length-normalised score", Format.percent(choices.normalizedAccuracy)],
        ["macro-F1", Format.number(report.macroF1, digits: 4)],
        ["texts", Format.count(report.examples)], ["classes", Format.count(labels.count)],
      ]))
  }
}
