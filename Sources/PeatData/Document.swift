/// One piece of text to learn from, and what is known about it.
///
/// A document either is text throughout, or has a `prompt` that is given and a `completion` that is to be learned, or is a
/// conversation of `turns`; `text` is then all of its `segments`, one after the other.
public struct Document: Sendable, Equatable {
  /// All of the text.
  public let text: String
  /// The part that is given and not learned, where there is one.
  public let prompt: String?
  /// The part after the prompt, where there is a prompt.
  public let completion: String?
  /// The messages, where the document is a conversation.
  public let turns: [ChatTurn]?
  /// The tools that a conversation may call.
  public let tools: ConversationTools?
  /// The text in pieces that are learned and pieces that are given; one piece where all of it is learned.
  public let segments: [TextSegment]
  /// The two texts, where the document is a pair of them; `text` is then one behind the other, on lines of their own.
  public let pair: TextPair?
  /// Whether the text has special tokens in it where they belong, as a chat template writes them: none are added.
  public private(set) var carriesSpecialTokens = false
  /// A picture, which a document has in the place of text.
  public var picture: PixelImage?
  /// What else the record said: `["speaker": "KATHARINA"]`. Numbers and truth values as they were written.
  public var fields: [String: String]

  public init(_ text: String, fields: [String: String] = [:]) {
    self.text = text
    self.prompt = nil
    self.completion = nil
    self.turns = nil
    self.tools = nil
    self.pair = nil
    self.segments = [TextSegment(text, isLearned: true)]
    self.fields = fields
  }

  public init(_ pair: TextPair, fields: [String: String] = [:]) {
    self.text = pair.first + "\n" + pair.second
    self.prompt = nil
    self.completion = nil
    self.turns = nil
    self.tools = nil
    self.pair = pair
    self.segments = [TextSegment(text, isLearned: true)]
    self.fields = fields
  }

  public init(prompt: String, completion: String, fields: [String: String] = [:]) {
    self.text = prompt + completion
    self.prompt = prompt
    self.completion = completion
    self.turns = nil
    self.tools = nil
    self.pair = nil
    self.segments = [
      TextSegment(prompt, isLearned: false), TextSegment(completion, isLearned: true),
    ]
    self.fields = fields
  }

  /// A conversation, as text that a model reads.
  public init(
    turns: [ChatTurn], tools: ConversationTools? = nil, fields: [String: String] = [:],
    rendering: some ChatRendering = PlainChatRendering()
  ) throws {
    self.segments = try rendering.segments(of: turns, tools: tools)
    self.tools = tools
    self.carriesSpecialTokens = rendering.carriesSpecialTokens
    self.text = segments.map(\.text).joined()
    self.prompt = nil
    self.completion = nil
    self.turns = turns
    self.pair = nil
    self.fields = fields
  }

  /// Whether a part of the text is given and not learned.
  public var hasGivenPart: Bool { segments.contains { !$0.isLearned } }

  /// Whether it is nothing but a text: one that could be cut.
  public var isPlainText: Bool {
    fields.isEmpty && picture == nil && pair == nil && !hasGivenPart
  }

  /// The same conversation as another text, such as the one that a model's chat template makes; other documents stay as they are.
  public func rendered(by rendering: some ChatRendering) throws -> Document {
    guard let turns else { return self }
    return try Document(turns: turns, tools: tools, fields: fields, rendering: rendering)
  }
}

/// The documents that belong together: one speaker's, one user's, one file's.
public struct DocumentGroup: Sendable, Equatable {
  public let name: String
  public var documents: [Document]

  public init(name: String, documents: [Document]) {
    self.name = name
    self.documents = documents
  }

  /// The size of the group's text, in UTF-8 bytes.
  public var byteCount: Int { documents.reduce(0) { $0 + $1.text.utf8.count } }
}
