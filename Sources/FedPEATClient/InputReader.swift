import Foundation

/// What makes inputs of documents: the tokenizer of a model of texts, or the preprocessing of a model of pictures.
public enum InputReader: Sendable {
  case texts(Tokenizer)
  case pictures(ImagePreprocessing)

  /// What lies in a model's folder. Pictures are resized to the model's size, 0 … 1, where there is no preprocessor_config.json.
  public init(folder: URL, for model: TransformerConfiguration) throws {
    guard let image = model.image else {
      self = .texts(try Tokenizer(folder: folder))
      return
    }
    let url = folder.appendingPathComponent("preprocessor_config.json")
    self = .pictures(
      FileManager.default.fileExists(atPath: url.path)
        ? try ImagePreprocessing(contentsOf: url)
        : ImagePreprocessing(resize: .exact(.init(width: image.width, height: image.height))))
  }

  /// Throws where the model sees pictures.
  public var tokenizer: Tokenizer {
    get throws {
      guard case .texts(let tokenizer) = self else {
        throw PeatError.usage("This model sees pictures and reads no text.")
      }
      return tokenizer
    }
  }

  /// The tokenizer, where there is one.
  public var optionalTokenizer: Tokenizer? { try? tokenizer }

  /// Documents as a model of classes sees them.
  public func dataset(
    _ documents: [Document], of task: ClassificationTask, for model: TransformerConfiguration,
    context: Int
  ) throws -> TokenDataset {
    switch self {
    case .texts(let tokenizer):
      return try task.dataset(
        documents, tokenizer: tokenizer, context: context, tokenTypes: model.tokenTypes)
    case .pictures(let preprocessing):
      guard let image = model.image else {
        throw PeatError.usage("This model reads text and sees no pictures.")
      }
      return try TokenDataset(
        pictures: documents.map { document in
          guard let picture = document.picture else {
            throw PeatError.badData(
              "This model sees pictures; the data has a text: '\(document.text.prefix(40))…'.")
          }
          let values = try preprocessing.tensor(
            of: image.channels == 1 ? picture.grey : picture.rgb)
          guard values.shape == [image.channels, image.height, image.width] else {
            throw PeatError.badData(
              "A picture is \(values.shape) as preprocessor_config.json makes it; config.json expects \([image.channels, image.height, image.width])."
            )
          }
          return (values, try task.number(of: document))
        }, cut: image)
    }
  }
}

extension TransformerConfiguration {
  /// The documents of a file as a model of this kind learns from them: pictures with their classes, texts with their classes, or texts.
  ///
  /// - Parameter classes: whether it is to tell classes apart; as its head says if not given.
  public func documents(in url: URL, classes: Bool? = nil) throws -> [Document] {
    if image != nil { return try LabelledImages(url).pictures() }
    return classes ?? (head?.labels != nil)
      ? try LabelledText.read(url).map(\.document) : try DocumentReader.read(url)
  }
}
