/// One piece of text to learn from, and what is known about it.
///
/// A document either is text throughout, or has a `prompt` that is given and a `completion` that is to be learned;
/// `text` is then the one followed by the other.
public struct Document: Sendable, Equatable {
  /// All of the text.
  public let text: String
  /// The part that is given and not learned, where there is one.
  public let prompt: String?
  /// The part after the prompt, where there is a prompt.
  public let completion: String?
  /// What else the record said: `["speaker": "KATHARINA"]`. Numbers and truth values as they were written.
  public var fields: [String: String]

  public init(_ text: String, fields: [String: String] = [:]) {
    self.text = text
    self.prompt = nil
    self.completion = nil
    self.fields = fields
  }

  public init(prompt: String, completion: String, fields: [String: String] = [:]) {
    self.text = prompt + completion
    self.prompt = prompt
    self.completion = completion
    self.fields = fields
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
