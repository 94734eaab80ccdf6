import Foundation
import PeatTensor

/// Whether a folder of the cache holds all of a model, as it came.
enum HubSnapshot {
  /// What keeps a folder from being a whole model or adapter, as a clause; `nil` where nothing does.
  static func missing(from folder: URL) -> String? {
    let names = ((try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []).sorted()
    // A link whose blob is gone.
    for name in names {
      let url = folder.appendingPathComponent(name)
      guard (try? FileManager.default.destinationOfSymbolicLink(atPath: url.path)) != nil,
        HubCache.fileSize(url) == nil
      else { continue }
      return "the content of '\(name)' is gone"
    }
    guard ["config.json", "adapter_config.json", "fedpeat.json"].contains(where: names.contains)
    else { return "there is no config.json" }
    if !names.contains("model.safetensors"), names.contains(HubSelection.index) {
      struct Index: Decodable {
        var files: [String: String]
        enum CodingKeys: String, CodingKey { case files = "weight_map" }
      }
      let url = folder.appendingPathComponent(HubSelection.index)
      guard let index = try? JSONFile.read(Index.self, from: url) else {
        return "\(HubSelection.index) can't be read"
      }
      if let file = Set(index.files.values).sorted().first(where: { !names.contains($0) }) {
        return
          "\(HubSelection.index) names the file '\(file.prefix(80))', which the model does not have"
      }
    }
    guard names.contains(where: { $0.hasSuffix(".safetensors") && !$0.contains("/") }) else {
      return "there are no weights in safetensors"
    }
    return nil
  }

  /// Whether a file is what its blob is named by: its digest is computed. What is no link to a blob named so is taken as it is.
  ///
  /// - Throws: `inputOutput` where it can't be read, `CancellationError`.
  static func isRight(_ file: URL) throws -> Bool {
    guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: file.path),
      let size = HubCache.fileSize(file)
    else { return true }
    let etag = (target as NSString).lastPathComponent
    guard var digest = BlobDigest(for: etag, size: size) else { return true }
    do {
      let handle = try FileHandle(forReadingFrom: file)
      defer { try? handle.close() }
      while let piece = try handle.read(upToCount: 1 << 20), !piece.isEmpty {
        try Task.checkCancellation()
        digest.update(piece)
      }
    } catch let error where !(error is CancellationError) {
      throw PeatError.inputOutput(
        "Can't read '\(file.path)': \(error.localizedDescription)", cause: error)
    }
    return digest.finish() == etag
  }
}
