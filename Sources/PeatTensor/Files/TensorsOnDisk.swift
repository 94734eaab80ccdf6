import Foundation

extension [String: Tensor] {
  /// The same values out of the way: in a file without a name, which is gone with whoever looks at it last, or with the process. What is not needed for a while
  /// takes no memory so.
  ///
  /// - Parameter folder: where the file is while it has a name.
  /// - Throws: `inputOutput` where the folder has no room.
  package func onDisk(
    in folder: URL = FileManager.default.temporaryDirectory
  ) throws -> NamedTensors {
    let url = folder.appendingPathComponent(
      "fedpeat-\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: url) }
    try SafeTensors.write(self, to: url)
    let result = try SafeTensorsFile(contentsOf: url).tensors()
    for tensor in result.values { tensor.releasePages() }
    return result
  }
}
