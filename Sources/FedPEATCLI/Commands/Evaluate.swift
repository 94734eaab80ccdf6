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
      document is measured by itself, cut to its first --context tokens. Of instructions, prompts with completions and \
      conversations only the answers count, as in tuning. A model of masked tokens is measured by what it \
      says of hidden ones: masked perplexity, 15 % of the tokens, the same for the same --seed.
      """)

  @Argument(help: "A model or emulator: its folder, or its name on the Hub; or what plug-in wrote.")
  var model: String

  @Option(
    help:
      "Text, a JSON array, JSON lines, a table, or a folder of such files: its perplexity, or masked perplexity, is measured; it is not if not given."
  )
  var text: String?

  @Option(
    help:
      "Multiple-choice questions: JSON or JSON lines with prompt, choices and answer; none are asked if not given."
  )
  var choices: String?

  @Option(
    help:
      "Labelled texts (CSV, TSV, JSON or JSON lines, or a folder for each class), or pictures: how often the model's head of classes is right; of a model that predicts each next token, how often the right label is its likeliest continuation; neither is measured if not given."
  )
  var labels: String?

  @Option(
    name: .customLong("adapter"),
    help: "An adapter folder to put into the model; the model stays as it is if not given.")
  var adapters: [String] = []

  private var adapter: String? { adapters.first }

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

  @Option(
    help: ArgumentHelp(
      "Measure each client's texts or questions for themselves too, with the mean, the worst tenth and the worst: the field that says whose a text is, such as speaker; all together if not given.",
      valueName: "field"))
  var perClient: String?

  @OptionGroup var streaming: StreamOptions

  @OptionGroup var common: CommonOptions

  func validate() throws {
    try Arguments.checkSingle("--adapter", adapters)
    guard [text, choices, labels].compactMap({ $0 }).count == 1 else {
      throw ValidationError("Give one of --text FILE, --choices FILE and --labels FILE.")
    }
    if let limit, limit < 1 { throw ValidationError("--limit is \(limit); it must be at least 1.") }
    if perClient != nil, limit != nil {
      throw ValidationError("--per-client goes without --limit.")
    }
    if text == nil, streaming.stream != nil {
      throw ValidationError("--stream and --no-stream are about --text.")
    }
  }

  func run() async throws {
    let loaded = try LoadedModel(URL(model: model), adapter: adapter.map(URL.init(path:)))
    if let labels, loaded.model.head?.layout.labels != nil {
      return try told(loaded, URL(path: labels))
    }
    if let text, loaded.model.configuration.predictsMaskedTokens {
      return try maskedTokens(loaded, URL(path: text))
    }
    if let text { return try perplexity(loaded, URL(path: text)) }
    let addBegin = try bos ?? loaded.tokenizer.addsBeginToken
    if let choices {
      try answers(loaded, try ChoiceQuestion.read(URL(path: choices)), addBegin)
    } else if let labels {
      let texts = try LabelledText.read(URL(path: labels))
      let known = try ClassLabels.sorted(texts.map(\.label))
      let questions = texts.compactMap { item in
        known.firstIndex(of: item.label).map {
          ChoiceQuestion(
            prompt: item.document.text, choices: known, answer: $0, fields: item.document.fields)
        }
      }
      try classes(loaded, questions, known, addBegin)
    }
  }

  /// Input tokens per window.
  private func windowContext(_ loaded: LoadedModel) -> Int {
    context ?? min(loaded.model.contextLength, 2048)
  }

  /// Each client's number beside the others', where they are asked for.
  ///
  /// - Parameters:
  ///   - groups: each client's documents.
  ///   - value: the number of some documents.
  private func summary(
    _ groups: [DocumentGroup]?, higherIsBetter: Bool, _ value: ([Document]) throws -> Double
  ) throws -> ClientSummary? {
    guard let groups else { return nil }
    var values: [String: Double] = [:]
    for (number, group) in groups.enumerated() {
      Terminal.status("client \(number + 1) of \(groups.count)")
      do { values[group.name] = try value(group.documents) } catch let error as PeatError {
        throw PeatError(error.code, "'\(group.name)': \(error.message)", cause: error)
      }
    }
    return try ClientSummary(values, higherIsBetter: higherIsBetter)
  }

  /// Prints a report, with what clients have where they were asked for.
  private func tell(
    _ report: some Encodable, _ rows: [[String]], _ clients: ClientSummary?, _ metric: Metric,
    macroF1: ClientSummary? = nil
  ) throws {
    let others = (macroF1?.rows(metric) ?? []).dropFirst().map { ["macro-F1: " + $0[0], $0[1]] }
    try common.report(
      ReportPerClient(report: report, perClient: clients, perClientMacroF1: macroF1),
      text: Format.table(rows + (clients?.rows(metric) ?? []) + others))
  }

  /// Each client's share of right answers to its questions, and its macro-F1 where choices are classes.
  private func summaries(
    _ questions: [ChoiceQuestion], _ answers: [MultipleChoiceMeasure.Answer], in file: String,
    classes: [String]? = nil
  ) throws -> (accuracy: ClientSummary?, macroF1: ClientSummary?) {
    guard let perClient else { return (nil, nil) }
    let documents = questions.enumerated().map {
      Document($1.prompt, fields: $1.fields.merging([Self.numberField: String($0)]) { $1 })
    }
    let groups = try DocumentReader.groups(of: documents, by: perClient, in: "'\(file)'")
    var (accuracies, scores): ([String: Double], [String: Double]) = ([:], [:])
    for group in groups {
      let numbers = group.documents.compactMap { $0.fields[Self.numberField].flatMap { Int($0) } }
      let own = (numbers.map { questions[$0] }, numbers.map { answers[$0] })
      accuracies[group.name] = ChoiceReport(own.1, to: own.0).accuracy
      if let classes {
        scores[group.name] = try ClassificationReport(
          zip(own.0, own.1).map { ($0.answer, $1.choice) }, labels: classes
        ).macroF1
      }
    }
    return (
      try ClientSummary(accuracies, higherIsBetter: true),
      classes == nil ? nil : try ClientSummary(scores, higherIsBetter: true)
    )
  }

  /// A question's number, beside the fields of its record.
  private static let numberField = "\u{0}number"

  /// By the model's own head of classes.
  private func told(_ loaded: LoadedModel, _ file: URL) throws {
    let documents = try loaded.model.configuration.documents(in: file, by: perClient)
    func report(_ documents: [Document]) throws -> ClassificationReport {
      let data = try TokenDataset.make(
        limit.map { Array(documents.prefix($0)) } ?? documents, reader: loaded.reader,
        for: loaded.model.configuration, layout: .documents, context: windowContext(loaded),
        addBegin: nil)
      return try ClassificationMeasure(threads: common.threadCount).report(
        loaded.model, data, shouldStop: { Interruption.isRequested },
        onProgress: { done, count in Terminal.status("text \(done) of \(count)") })
    }
    let whole = try report(documents)
    let groups = try perClient.map {
      try DocumentReader.groups(of: documents, by: $0, in: "'\(file.relativePath)'")
    }
    // Each client once, for both numbers.
    var known: [String: ClassificationReport] = [:]
    func report(of documents: [Document]) throws -> ClassificationReport {
      let client = perClient.flatMap { documents.first?.fields[$0] } ?? ""
      if let report = known[client] { return report }
      let computed = try report(documents)
      known[client] = computed
      return computed
    }
    try tell(
      whole,
      [
        ["accuracy", Format.percent(whole.accuracy)],
        ["macro-F1", Format.number(whole.macroF1, digits: 4)],
        ["examples", Format.count(whole.examples)],
        ["classes", Format.count(whole.labels.count)],
      ], summary(groups, higherIsBetter: true) { try report(of: $0).accuracy }, .accuracy,
      macroF1: summary(groups, higherIsBetter: true) { try report(of: $0).macroF1 })
  }

  /// Of a model that says what stands at masked places.
  private func maskedTokens(_ loaded: LoadedModel, _ file: URL) throws {
    if stride != nil {
      throw PeatError.usage("--stride is for models that predict each next token.")
    }
    func report(_ data: TokenDataset) throws -> MaskedTokenReport {
      try MaskedTokenMeasure(threads: common.threadCount).report(
        loaded.model, data, limit: documents ? nil : limit,
        shouldStop: { Interruption.isRequested },
        onProgress: { done, count in Terminal.status("window \(done) of \(count)") })
    }
    func data(_ texts: [Document]) throws -> TokenDataset {
      try TokenDataset.make(
        documents ? limit.map { Array(texts.prefix($0)) } ?? texts : texts, reader: loaded.reader,
        for: loaded.model.configuration, layout: documents ? .documents : .stream,
        context: windowContext(loaded), addBegin: bos, seed: common.seedValue)
    }
    let groups = try groups(file)
    let whole =
      try streams(file)
      ? try report(
        .streaming(
          file, reader: loaded.reader, for: loaded.model.configuration,
          context: windowContext(loaded), addBegin: bos, seed: common.seedValue))
      : try report(data(DocumentReader.read(file)))
    try tell(
      whole,
      [
        ["masked perplexity", Format.number(whole.maskedPerplexity, digits: 4)],
        ["loss (nats per hidden token)", Format.number(whole.loss, digits: 4)],
        ["hidden tokens found", Format.percent(whole.accuracy)],
        ["hidden tokens", Format.count(whole.tokens)],
      ], summary(groups, higherIsBetter: false) { try report(data($0)).maskedPerplexity },
      .maskedPerplexity)
  }

  /// The texts by whose they are, where that is asked for.
  private func groups(_ file: URL) throws -> [DocumentGroup]? {
    try perClient.map { try DocumentReader.readGrouped(file, by: $0) }
  }

  /// Whether the text is read piece by piece.
  private func streams(_ file: URL) throws -> Bool {
    guard try streaming.isFor(file) else { return false }
    guard documents else { return true }
    if streaming.stream == true {
      throw PeatError.usage("--stream measures one stream; leave it out with --documents.")
    }
    return false
  }

  private func perplexity(_ loaded: LoadedModel, _ file: URL) throws {
    let measure = try PerplexityMeasure(
      context: windowContext(loaded), stride: stride, threads: common.threadCount,
      model: loaded.model)
    let tokenizer = try loaded.tokenizer
    let clock = ContinuousClock.now
    let onProgress = { @Sendable (done: Int, count: Int) in
      let seconds = (ContinuousClock.now - clock).seconds
      let left = Duration.seconds(seconds / Double(done) * Double(count - done))
      Terminal.status("window \(done) of \(count), \(Format.time(left)) left")
    }
    func report(_ texts: [Document]) throws -> PerplexityReport {
      try measure.report(
        loaded.model, tokenizer: tokenizer, documents: texts, asDocuments: documents,
        addBegin: bos, limit: limit, shouldStop: { Interruption.isRequested },
        onProgress: onProgress)
    }
    let groups = try groups(file)
    let whole: PerplexityReport
    if try !loaded.model.configuration.hasEncoder && streams(file) {
      Terminal.status("reading \(file.relativePath) …")
      whole = try measure.report(
        loaded.model,
        TokenFile(stream: file, tokenizer: tokenizer, addBegin: bos, joinedBy: "\n"),
        limit: limit, shouldStop: { Interruption.isRequested }, onProgress: onProgress)
    } else {
      whole = try report(DocumentReader.read(file))
    }
    try tell(
      whole,
      [
        ["perplexity", Format.number(whole.perplexity, digits: 4)],
        ["loss (nats per token)", Format.number(whole.loss, digits: 4)],
        ["bits per byte", Format.number(whole.bitsPerByte, digits: 4)],
        [
          whole.answersOnly ? "tokens of answers, which alone count" : "tokens",
          Format.count(whole.tokens),
        ],
      ], summary(groups, higherIsBetter: false) { try report($0).perplexity }, .perplexity)
  }

  private func answers(
    _ loaded: LoadedModel, _ questions: [ChoiceQuestion], _ addBegin: Bool
  ) throws {
    let chosen = limit.map { Array(questions.prefix($0)) } ?? questions
    let measure = try MultipleChoiceMeasure(
      loaded.model, tokenizer: try loaded.tokenizer, addBegin: addBegin)
    let answers = try measure.answers(
      to: chosen, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("question \(done) of \(count)") })
    let report = ChoiceReport(answers, to: chosen)
    try tell(
      report,
      [
        ["accuracy", Format.percent(report.accuracy)],
        ["accuracy by length-normalised score", Format.percent(report.normalizedAccuracy)],
        ["questions", Format.count(report.questions)],
      ], summaries(chosen, answers, in: choices ?? "").accuracy, .accuracy)
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
    let clients = try summaries(chosen, answers, in: self.labels ?? "", classes: labels)
    try tell(
      ClassReport(
        accuracy: report.accuracy, normalizedAccuracy: choices.normalizedAccuracy,
        questions: report.examples, macroF1: report.macroF1, labels: report.labels,
        confusion: report.confusion),
      [
        ["accuracy", Format.percent(report.accuracy)],
        ["accuracy by length-normalised score", Format.percent(choices.normalizedAccuracy)],
        ["macro-F1", Format.number(report.macroF1, digits: 4)],
        ["texts", Format.count(report.examples)], ["classes", Format.count(labels.count)],
      ], clients.accuracy, .accuracy, macroF1: clients.macroF1)
  }
}

/// A report with what each client has beside it.
private struct ReportPerClient<Report: Encodable>: Encodable {
  var report: Report
  /// Absent where it was not asked for.
  var perClient: ClientSummary?
  /// The same of macro-F1, where there are classes.
  var perClientMacroF1: ClientSummary?

  private enum CodingKeys: String, CodingKey { case perClient, perClientMacroF1 }

  func encode(to encoder: any Encoder) throws {
    try report.encode(to: encoder)
    guard let perClient else { return }
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(perClient, forKey: .perClient)
    try table.encodeIfPresent(perClientMacroF1, forKey: .perClientMacroF1)
  }
}
