import ArgumentParser
import FedPEAT
import Foundation

struct Pull: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Get a model from the Hugging Face Hub.",
    discussion: """
      Example: fedpeat pull openai-community/gpt2

      Afterwards every verb takes the name in place of a model's folder. What is fetched lies in the cache that Python's \
      huggingface_hub uses ($HF_HOME, else ~/.cache/huggingface), and each finds what the other got. Configuration, tokenizer and \
      safetensors are fetched; weights as a pickle are refused. An interrupted pull goes on where it stopped, and each file counts \
      once its digest is right. HF_ENDPOINT names another server, HF_TOKEN opens private and gated models, and with HF_HUB_OFFLINE=1 \
      nothing is fetched.
      """)

  @Argument(help: "ORG/NAME, or ORG/NAME@REVISION for a branch, a tag or a commit.")
  var model: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var model: String
    var revision: String
    var commit: String
    var folder: String
    var files: [String]
    var bytes: Int
    var fetchedBytes: Int
    /// What the model card says; null where it says nothing.
    var licence: String?

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(model, forKey: .model)
      try container.encode(revision, forKey: .revision)
      try container.encode(commit, forKey: .commit)
      try container.encode(folder, forKey: .folder)
      try container.encode(files, forKey: .files)
      try container.encode(bytes, forKey: .bytes)
      try container.encode(fetchedBytes, forKey: .fetchedBytes)
      try container.encode(licence, forKey: .licence)
    }

    private enum CodingKeys: CodingKey {
      case model, revision, commit, folder, files, bytes, fetchedBytes, licence
    }
  }

  func run() async throws {
    let name = try HubName(model)
    let settings = try HubSettings()
    Terminal.note(
      settings.isOffline
        ? "offline      looking for \(name) in the cache"
        : "asking       \(settings.endpoint) for \(name)")
    let result = try await HubPull(settings).pull(
      name, onProgress: { Terminal.status(Self.line($0)) },
      onNote: { Terminal.note("waiting      \($0)") })
    let report = Report(
      model: name.repository, revision: name.revision, commit: result.commit,
      folder: result.folder.path, files: result.files, bytes: result.bytes,
      fetchedBytes: result.fetchedBytes, licence: try Licence.stated(in: result.folder))
    try common.report(
      report,
      text: Format.table([
        ["model", Terminal.printable("\(name)")], ["commit", report.commit],
        ["folder", report.folder],
        ["files", "\(report.files.count), \(Format.bytes(report.bytes))"],
        ["fetched now", Format.bytes(report.fetchedBytes)],
        ["licence", Terminal.printable(report.licence ?? "not stated")],
      ]))
  }

  private static func line(_ progress: PullProgress) -> String {
    var text =
      "\(progress.file) (\(progress.fileNumber) of \(progress.fileCount))  "
      + "\(Format.bytes(progress.bytes)) of \(Format.bytes(progress.totalBytes))"
    if let rate = progress.bytesPerSecond {
      text += ", \(Format.bytes(Int(rate)))/s"
      if let left = progress.secondsLeft, left.isFinite { text += ", \(Format.seconds(left)) left" }
    }
    return text
  }
}
