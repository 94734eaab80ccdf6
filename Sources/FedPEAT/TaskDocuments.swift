import Foundation

extension TransformerConfiguration {
  /// The documents of a file as a model of this kind learns from them: texts with their classes, where its head is of classes.
  public func documents(in url: URL) throws -> [Document] {
    head?.labels == nil
      ? try DocumentReader.read(url) : try LabelledText.read(url).map(\.document)
  }
}
