import Foundation

/// What makes inputs of documents: the tokenizer of a model of texts, or the preprocessing of a model of pictures.
public enum InputReader: Sendable {
  case texts(Tokenizer)
  case pictures(ImagePreprocessing)

  /// What lies in a model's folder: a tokenizer, or for pictures preprocessor_config.json or timm's `pretrained_cfg` in config.json. Without these pictures are
  /// resized to the model's size, 0 … 1.
  public init(folder: URL, for model: TransformerConfiguration) throws {
    guard let image = model.image else {
      self = .texts(try Tokenizer(folder: folder))
      return
    }
    let url = folder.appendingPathComponent("preprocessor_config.json")
    if FileManager.default.fileExists(atPath: url.path) {
      self = .pictures(try ImagePreprocessing(contentsOf: url))
      return
    }
    let own = folder.appendingPathComponent("config.json")
    let json =
      FileManager.default.fileExists(atPath: own.path)
      ? try JSONFile.read(JSONValue.self, from: own)["pretrained_cfg"] : nil
    self = .pictures(
      try json.flatMap { $0.object == nil ? nil : $0 }.map {
        try ImagePreprocessing(
          timm: $0, width: image.width, height: image.height, name: own.path)
      } ?? ImagePreprocessing(resize: .exact(.init(width: image.width, height: image.height))))
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
            // What becomes of transparency is the preprocessing's to say.
            of: image.channels == 1
              ? picture.grey : picture.channels == 4 ? picture : picture.rgb)
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

extension Document {
  /// A device's own data, of which no model has said yet what it is: a folder with folders of pictures in it is of pictures, and so is an idx file; all else is
  /// text.
  public static func read(ofDevice url: URL) throws -> [Document] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      return try DocumentReader.read(url)
    }
    let isOfPictures =
      isFolder.boolValue ? LabelledImages.hasPictures(url) : IdxFile.isOne(url)
    return isOfPictures ? try LabelledImages(url).pictures() : try DocumentReader.read(url)
  }
}

extension TransformerConfiguration {
  /// The documents of a file or folder as a model of this kind learns from them: pictures with their classes, texts with their classes, or texts.
  ///
  /// - Parameters:
  ///   - classes: whether it is to tell classes apart; as its head says if not given.
  ///   - field: what they are to be divided by, as `DocumentReader.read` takes it.
  public func documents(
    in url: URL, classes: Bool? = nil, by field: String? = nil
  ) throws -> [Document] {
    if image != nil { return try LabelledImages(url).pictures() }
    return classes ?? (head?.labels != nil)
      ? try LabelledText.read(url, by: field).map(\.document)
      : try DocumentReader.read(url, by: field)
  }
}
