import ArgumentParser
import FedPEAT
import Foundation

struct Generate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Continue a text.",
    discussion: """
      Example: fedpeat generate models/stories260K --prompt "Once upon a time" --max-tokens 100

      Prints what follows the prompt, not the prompt itself, up to a token that ends a text: the tokenizer's eos_token, and those that \
      generation_config.json, or where that is not there config.json, names as eos_token_id.
      """)

  @Argument(help: "A model or emulator: its folder, or its name on the Hub; or what plug-in wrote.")
  var model: String

  @Option(help: "The text to continue; begins with the begin token if not given.")
  var prompt = ""

  @Flag(
    help:
      "The prompt is what a user says: it is written as the model's own chat template does, or without one under headings as in tuning, and what follows is the answer."
  )
  var chat = false

  @Option(
    help: "With --chat: instructions that stand before it; nothing if not given.")
  var system: String?

  @Option(
    name: .customLong("adapter"),
    help:
      "An adapter to put into the model: its folder, or its name on the Hub; the model stays as it is if not given."
  )
  var adapters: [String] = []

  private var adapter: String? { adapters.first }

  @Option(help: "How many tokens to add at most.")
  var maxTokens = 100

  @Option(help: "0 takes the most likely token each time; higher is more varied.")
  var temperature: Float = 0

  @Option(help: "Choose among only so many most likely tokens; among all if not given.")
  var topTokens: Int?

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var text: String
    var tokens: Int
    var tokensPerSecond: Double
  }

  func validate() throws {
    try Arguments.checkSingle("--adapter", adapters)
    if system != nil, !chat { throw ValidationError("--system goes with --chat.") }
    if chat, prompt.isEmpty {
      throw ValidationError("--chat needs what the user says: --prompt TEXT.")
    }
    if maxTokens < 1 {
      throw ValidationError("--max-tokens is \(maxTokens); it must be at least 1.")
    }
    if !(temperature >= 0 && temperature.isFinite) {
      throw ValidationError("--temperature is \(temperature); it must be 0 or above.")
    }
    if let topTokens, topTokens < 1 {
      throw ValidationError("--top-tokens is \(topTokens); it must be at least 1.")
    }
  }

  func run() async throws {
    let loaded = try LoadedModel(URL(model: model), adapter: adapter.map { try URL(adapter: $0) })
    let tokenizer = try loaded.tokenizer
    let usesHeadings = try chat && !tokenizer.hasChatTemplate
    let tokens = try promptTokens(tokenizer, usesHeadings: usesHeadings)
    var given = tokens.isEmpty ? tokenizer.beginToken.map { [$0] } ?? [] : tokens
    // What an encoder reads is whole.
    if loaded.model.configuration.hasEncoder, let end = tokenizer.endToken, given.last != end {
      given.append(end)
    }
    var generator = try TextGenerator(
      loaded.model, prompt: given, capacity: min(given.count, 1 << 30) + min(maxTokens, 1 << 30),
      settings: SamplingSettings(
        temperature: temperature, topTokens: topTokens, seed: common.seedValue),
      threads: common.threadCount)
    let ends = try loaded.checkpoint.endTokens().union(tokenizer.endToken.map { [$0] } ?? [])
    var decoder = StreamingDecoder(tokenizer)
    var answer = usesHeadings ? PlainAnswer() : nil
    var text = ""
    var count = 0
    func show(_ piece: String) {
      text += piece
      if !common.json { try? FileHandle.standardOutput.write(contentsOf: Data(piece.utf8)) }
    }
    let start = ContinuousClock.now
    while count < maxTokens, let token = try generator.next() {
      try checkInterruption()
      count += 1
      if ends.contains(token) { break }
      let piece = decoder.append(token)
      show(answer?.append(piece) ?? piece)
      if answer?.isOver == true { break }
    }
    let rest = decoder.finish()
    show(answer?.append(rest) ?? rest)
    show(answer?.finish() ?? "")
    let seconds = (ContinuousClock.now - start).seconds
    let report = Report(
      text: text, tokens: count, tokensPerSecond: Double(count) / max(seconds, 1e-9))
    if common.json {
      try common.report(report, text: "")
    } else {
      try Terminal.print("")
      Terminal.note(
        "\(count) tokens, \(Format.number(report.tokensPerSecond, digits: 1)) tokens/s")
    }
  }

  /// The prompt as the model reads it: as it is, as the model's chat template writes it, or under the headings that tuning gives conversations without one.
  private func promptTokens(_ tokenizer: Tokenizer, usesHeadings: Bool) throws -> [Int32] {
    if usesHeadings {
      let turns =
        (system.map { [ChatTurn(role: "system", content: $0)] } ?? [])
        + [ChatTurn(role: "user", content: prompt)]
      return try tokenizer.encode(PlainChatRendering().prompt(turns), addSpecialTokens: true)
    }
    guard chat else { return try tokenizer.encode(prompt, addSpecialTokens: !prompt.isEmpty) }
    return try tokenizer.encode(
      tokenizer.chatText(
        (system.map { [.system($0)] } ?? []) + [.user(prompt)], addGenerationPrompt: true),
      addSpecialTokens: false)
  }
}
