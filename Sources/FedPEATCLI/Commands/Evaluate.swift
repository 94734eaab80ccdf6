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
    help:
      "An adapter to put into the model: its folder, or its name on the Hub; the model stays as it is if not given."
  )
  var adapters: [String] = []

  private var adapter: String? { adapters.first }

  @Option(
    help:
      "Input tokens per window, question or labelled text; the model's longest if not given, of windows and of texts for a head of classes at most 2048."
  )
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
    if text == nil, stride != nil || documents {
      throw ValidationError("--stride and --documents are about --text.")
    }
    if text == nil, streaming.stream != nil {
      throw ValidationError("--stream and --no-stream are about --text.")
    }
  }

  func run() async throws {
    let loaded = try LoadedModel(URL(model: model), adapter: adapter.map { try URL(adapter: $0) })
    // Before anything is read: what is said of it holds for long texts and short ones.
    if let context { try loaded.model.checkContext(context) }
    if let labels, loaded.model.head?.layout.labels != nil {
      return try told(loaded, URL(path: labels))
    }
    if let text, loaded.model.configuration.predictsMaskedTokens {
      return try maskedTokens(loaded, URL(path: text))
    }
    if let text { return try perplexity(loaded, URL(path: text)) }
    if labels != nil { try checkTellsClasses(loaded.model.configuration) }
    let addBegin = try bos ?? loaded.tokenizer.addsBeginToken
    if let choices {
      try answers(loaded, try ChoiceQuestion.read(URL(path: choices)), addBegin)
    } else if let labels {
      DataCautions.tell(URL(path: labels), ofPictures: false, ofClasses: true)
      let texts = try LabelledText.read(URL(path: labels), by: perClient)
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

  /// Throws where a model has no head of classes and says nothing either that labels could be scored by.
  private func checkTellsClasses(_ configuration: TransformerConfiguration) throws {
    guard configuration.head == nil || configuration.predictsMaskedTokens else { return }
    throw PeatError.usage(
      "'\(model)' of the type \(configuration.modelType) has no head of classes, and predicts no next tokens that labels could be scored by. "
        + "'fedpeat tune \(model) --task classification --data FILE --out FOLDER' trains such a head; 'fedpeat evaluate \(model) --adapter FOLDER --labels FILE' "
        + "then measures it.")
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
  ///
  /// - Parameter cut: where texts are cut to a length, how many were.
  private func tell(
    _ report: some Encodable, _ rows: [[String]], _ clients: ClientSummary?, _ metric: Metric,
    macroF1: ClientSummary? = nil, cut: CutTexts? = nil
  ) throws {
    let others = (macroF1?.rows(metric) ?? []).dropFirst().map { ["macro-F1: " + $0[0], $0[1]] }
    try common.report(
      MeasurementReport(report: report, perClient: clients, perClientMacroF1: macroF1, cut: cut),
      text: Format.table(rows + (clients?.rows(metric) ?? []) + others))
  }

  /// Whose the questions are, by their numbers, where each client is to be measured.
  private func clients(
    of questions: [ChoiceQuestion], in file: String
  ) throws -> [(name: String, numbers: [Int])]? {
    try perClient.map {
      try DocumentReader.numbers(
        of: questions.map { Document($0.prompt, fields: $0.fields) }, by: $0, in: "'\(file)'")
    }
  }

  /// Each client's share of right answers to its questions, and its macro-F1 where choices are classes.
  private func summaries(
    _ clients: [(name: String, numbers: [Int])]?, _ questions: [ChoiceQuestion],
    _ answers: [MultipleChoiceMeasure.Answer], classes: [String]? = nil
  ) throws -> (accuracy: ClientSummary?, macroF1: ClientSummary?) {
    guard let clients else { return (nil, nil) }
    var (accuracies, scores): ([String: Double], [String: Double]) = ([:], [:])
    for (name, numbers) in clients {
      let own = (numbers.map { questions[$0] }, numbers.map { answers[$0] })
      accuracies[name] = ChoiceReport(own.1, to: own.0).accuracy
      if let classes {
        scores[name] = try ClassificationReport(
          zip(own.0, own.1).map { ($0.answer, $1.choice) }, labels: classes
        ).macroF1
      }
    }
    return (
      try ClientSummary(accuracies, higherIsBetter: true),
      classes == nil ? nil : try ClientSummary(scores, higherIsBetter: true)
    )
  }

  /// By the model's own head of classes.
  private func told(_ loaded: LoadedModel, _ file: URL) throws {
    let isOfPictures = loaded.model.configuration.image != nil
    DataCautions.tell(file, ofPictures: isOfPictures, ofClasses: true)
    let documents = try loaded.model.configuration.documents(in: file, by: perClient)
    let groups = try perClient.map {
      try DocumentReader.groups(of: documents, by: $0, in: "'\(file.relativePath)'")
    }
    func dataset(_ documents: [Document]) throws -> TokenDataset {
      try TokenDataset.make(
        limit.map { Array(documents.prefix($0)) } ?? documents, reader: loaded.reader,
        for: loaded.model.configuration, layout: .documents, context: windowContext(loaded),
        addBegin: nil)
    }
    func report(_ data: TokenDataset) throws -> ClassificationReport {
      try ClassificationMeasure(threads: common.threadCount).report(
        loaded.model, data, shouldStop: { Interruption.isRequested },
        onProgress: { done, count in Terminal.status("text \(done) of \(count)") })
    }
    let data = try dataset(documents)
    let cut =
      isOfPictures
      ? nil : CutTexts(context: windowContext(loaded), shortened: data.shortenedDocuments)
    cut?.tell(of: data.documentCount, keeping: "first")
    let whole = try report(data)
    // Each client once, for both numbers.
    var known: [String: ClassificationReport] = [:]
    func report(of documents: [Document]) throws -> ClassificationReport {
      let client = perClient.flatMap { documents.first?.fields[$0] } ?? ""
      if let report = known[client] { return report }
      let computed = try report(dataset(documents))
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
      macroF1: summary(groups, higherIsBetter: true) { try report(of: $0).macroF1 }, cut: cut)
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

  /// What the model says to questions, and how many of them were too long to be read whole.
  private func scored(
    _ loaded: LoadedModel, _ questions: [ChoiceQuestion], _ kind: String, _ addBegin: Bool
  ) throws -> (answers: [MultipleChoiceMeasure.Answer], cut: CutTexts) {
    let measure = try MultipleChoiceMeasure(
      loaded.model, tokenizer: try loaded.tokenizer, addBegin: addBegin, context: context)
    let answers = try measure.answers(
      to: questions, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("\(kind) \(done) of \(count)") })
    let cut = CutTexts(context: measure.context, shortened: answers.count(where: \.isShortened))
    cut.tell(of: questions.count, "\(kind)s", keeping: "last")
    return (answers, cut)
  }

  private func answers(
    _ loaded: LoadedModel, _ questions: [ChoiceQuestion], _ addBegin: Bool
  ) throws {
    let chosen = limit.map { Array(questions.prefix($0)) } ?? questions
    let clients = try clients(of: chosen, in: choices ?? "")
    let (answers, cut) = try scored(loaded, chosen, "question", addBegin)
    let report = ChoiceReport(answers, to: chosen)
    try tell(
      report,
      [
        ["accuracy", Format.percent(report.accuracy)],
        ["accuracy by length-normalised score", Format.percent(report.normalizedAccuracy)],
        ["questions", Format.count(report.questions)],
      ], summaries(clients, chosen, answers).accuracy, .accuracy, cut: cut)
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
    let clients = try clients(of: chosen, in: self.labels ?? "")
    let (answers, cut) = try scored(loaded, chosen, "text", addBegin)
    let choices = ChoiceReport(answers, to: chosen)
    let report = try ClassificationReport(
      zip(chosen, answers).map { ($0.answer, $1.choice) }, labels: labels)
    let summaries = try summaries(clients, chosen, answers, classes: labels)
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
      ], summaries.accuracy, .accuracy, macroF1: summaries.macroF1, cut: cut)
  }
}
