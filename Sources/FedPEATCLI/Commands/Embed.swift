import ArgumentParser
import FedPEAT
import Foundation

struct Embed: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a vector of each text out of a model's last states.",
    discussion: """
      Example: fedpeat embed models/all-MiniLM-L6-v2 --text questions.txt --normalize --out questions.safetensors

      Texts are a file's documents, or with --lines its lines; each has a vector, empty ones too: zeros, where the \
      tokenizer puts nothing around a text. How the states become a vector is what \
      sentence-transformers' files beside the model say (modules.json with its Pooling and Normalize, max_seq_length, a default prompt); \
      without them it is their mean. The vectors are written as 'embeddings' [texts, width] into --out, or with \
      --json shown.
      """)

  @Argument(help: "A model or emulator folder, or what plug-in wrote.")
  var model: String

  @Option(help: "Text, a JSON array, JSON lines or a table.")
  var text: String

  @Flag(help: "Take each line as a text, empty ones too.")
  var lines = false

  @Flag(help: "Bring vectors to length 1, also where the model's files do not say so.")
  var normalize = false

  @Option(
    help:
      "Tokens of a text that are read at most; what the model's files say, or its longest, if not given."
  )
  var context: Int?

  @Option(
    help:
      "An adapter to put into the model: its folder, or its name on the Hub; the model stays as it is if not given."
  )
  var adapter: String?

  @Option(help: "The safetensors file to write; nothing is written if not given.")
  var out: String?

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var texts: Int
    var width: Int
    /// How states become a vector.
    var pooling: [SentencePooling]
    var normalized: Bool
    /// Tokens of a text that are read at most.
    var context: Int
    /// Texts that have more, whose rest was left out.
    var shortened: Int
    var file: String?
    /// Where they are not written into a file.
    var embeddings: [[Float]]?
  }

  func run() async throws {
    if let out { try checkPlace(URL(path: out)) }
    let loaded = try LoadedModel(URL(model: model), adapter: adapter.map { try URL(adapter: $0) })
    let documents = try DocumentReader.read(URL(path: text), keepsEmpty: true).map(\.text)
    let texts = lines ? documents.flatMap(Self.lines) : documents
    var recipe = try SentenceRecipe(folder: loaded.checkpoint.folder)
    if normalize { recipe.isNormalized = true }
    let embedder = try TextEmbedder(
      loaded.model, recipe: recipe, context: context, threads: common.threadCount)
    let rows = try embedder.rows(of: texts, tokenizer: loaded.tokenizer)
    CutTexts(context: embedder.context, shortened: rows.shortened).tell(
      of: texts.count, advice: lines ? nil : "--lines makes a vector of each line")
    let vectors = try embedder.embeddings(
      of: rows.tokens, shouldStop: { Interruption.isRequested },
      onProgress: { done, count in Terminal.status("text \(done) of \(count)") })
    if let out {
      try SafeTensors.write(
        ["embeddings": vectors], to: URL(path: out), metadata: ["format": "pt"])
    }
    let report = Report(
      texts: texts.count, width: vectors.shape[1], pooling: recipe.poolings,
      normalized: recipe.isNormalized, context: embedder.context, shortened: rows.shortened,
      file: out,
      embeddings: out == nil
        ? texts.indices.map { vectors.rows($0..<$0 + 1).scalars } : nil)
    try common.report(
      report,
      text: Format.table([
        ["texts", Format.count(report.texts)], ["width", Format.count(report.width)],
        [
          "of the states",
          report.pooling.map(\.rawValue).joined(separator: ", ")
            + (report.normalized ? ", brought to length 1" : ""),
        ],
        ["tokens at most", Format.count(report.context)],
        ["texts that have more", Format.count(report.shortened)],
        ["written to", out ?? "nowhere: give --out FILE, or --json to see them"],
      ]))
  }

  /// Each line of a text, the empty ones among them; what ends the last line begins no other.
  private static func lines(_ text: String) -> [String] {
    var lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      .map(String.init)
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }

  /// Throws before any work where vectors would take the place of something else.
  private func checkPlace(_ file: URL) throws {
    func whole(_ url: URL) -> String { url.standardizedFileURL.resolvingSymlinksInPath().path }
    let place = whole(file)
    guard place != whole(URL(path: text)) else {
      throw PeatError.usage("--out is the file of texts that is read; name another.")
    }
    let folders = try [URL(model: model)] + (adapter.map { [try URL(adapter: $0)] } ?? [])
    if let folder = folders.first(where: { place.hasPrefix(whole($0) + "/") }) {
      throw PeatError.usage(
        "--out '\(file.relativePath)' lies in '\(folder.relativePath)', which is read from; name a file outside of it."
      )
    }
    guard FileManager.default.fileExists(atPath: place) else { return }
    guard let names = try? SafeTensorsFile(contentsOf: file).names, names == ["embeddings"] else {
      throw PeatError.inputOutput(
        "'\(file.relativePath)' is there already, and holds no vectors of 'embed'; name another file, or delete it."
      )
    }
  }
}
