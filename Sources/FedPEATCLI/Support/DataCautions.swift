import FedPEAT
import Foundation

/// What a folder of data holds that nothing is made of.
enum DataCautions {
  /// Says which files of a folder are left out: beside pictures, or beside folders of classes.
  ///
  /// What can't be listed is no caution: who reads the data says so.
  static func tell(_ url: URL, ofPictures: Bool, ofClasses: Bool) {
    let files: [String]
    if ofPictures {
      files = (try? LabelledImages.filesLeftOut(of: url)) ?? []
    } else if ofClasses {
      files = ((try? LabelledText.filesPassedOver(in: url)) ?? []).map(\.lastPathComponent)
    } else {
      return
    }
    guard !files.isEmpty else { return }
    let isOne = files.count == 1
    let names = files.prefix(3).map { "'\($0)'" }.joined(separator: ", ")
    Terminal.caution(
      "\(files.count) \(isOne ? "file" : "files") in '\(url.relativePath)' \(isOne ? "is" : "are") left out: \(names)\(files.count > 3 ? ", …" : "")\(ofPictures ? "; pictures are .png and .jpg files in the folders of their classes" : "; of what lies beside the folders of classes only tables and records with labels are read")"
    )
  }

  /// As a model of this kind reads the folder.
  static func tell(_ url: URL, for model: TransformerConfiguration) {
    tell(url, ofPictures: model.image != nil, ofClasses: model.head?.labels != nil)
  }

  /// Of a run's data that are here.
  static func tell(of run: RunConfiguration) throws {
    let folders = Set([run.data, run.evaluationData].compactMap { $0 }).sorted()
      .map { URL(path: $0) }.filter(\.isFolder)
    guard !folders.isEmpty, !run.model.isEmpty else { return }
    let model = try Checkpoint(folder: run.modelFolder()).configuration
    for folder in folders {
      tell(
        folder, ofPictures: model.image != nil,
        ofClasses: run.task == .classification || run.task == nil && model.head?.labels != nil)
    }
  }
}
