import Foundation
import PeatTensor

extension Tokenizer {
  /// The text of a conversation, as the checkpoint's template writes it. It carries its special tokens: encode it without adding others.
  ///
  ///     let text = try tokenizer.chatText([.user("What is a mill?")], addGenerationPrompt: true)
  ///     let numbers = try tokenizer.encode(text, addSpecialTokens: false)
  ///
  /// - Throws: `badData` where the checkpoint has no template of that name, or the template refuses the conversation.
  public func chatText(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = false, template name: String = "default",
    now: Date? = nil
  ) throws -> String {
    try chatTemplate(named: name).text(
      messages, addGenerationPrompt: addGenerationPrompt, now: now)
  }

  /// The chat template of that name: `chat_template.jinja`, or "chat_template" of `tokenizer_config.json`, a text or a list of named
  /// ones.
  public func chatTemplate(named name: String = "default") throws -> ChatTemplate {
    let sources = try chatTemplateSources()
    guard let source = sources.first(where: { $0.name == name }) else {
      let names = sources.map(\.name).joined(separator: ", ")
      throw PeatError.badData(
        sources.isEmpty
          ? "The tokenizer has no chat template: neither chat_template.jinja nor 'chat_template' in tokenizer_config.json."
          : "The tokenizer has no chat template '\(name)'. It has: \(names).")
    }
    return try ChatTemplate(source.text, tokens: specialTokens())
  }

  /// Whether the checkpoint has one of the usual name.
  public var hasChatTemplate: Bool {
    get throws { try chatTemplateSources().contains { $0.name == "default" } }
  }

  private func chatTemplateSources() throws -> [(name: String, text: String)] {
    var sources: [(name: String, text: String)] = []
    if let file = sourceFiles["chat_template.jinja"] {
      guard let text = String(validating: file, as: UTF8.self) else {
        throw PeatError.badData("chat_template.jinja is not UTF-8 text.")
      }
      sources.append(("default", text))
    }
    guard let data = sourceFiles["tokenizer_config.json"],
      let part = try TokenizerPart(data, file: "tokenizer_config.json").optional("chat_template")
    else { return sources }
    if case .array = part.value {
      for element in try part.elements() {
        sources.append((try element.string("name").text, try element.string("template").text))
      }
    } else {
      sources.append(("default", try part.string().text))
    }
    return sources
  }

  /// The special tokens that the files name, such as `bos_token`.
  private func specialTokens() throws -> [String: String] {
    let names = [
      "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    ]
    return try SpecialTokenNames.read(names, in: sourceFiles).mapValues(\.token.text)
  }
}
