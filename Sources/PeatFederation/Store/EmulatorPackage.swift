import Foundation
import PeatTensor

/// What a client needs to train on one emulator level: the files of the emulator's folder, by digest.
public struct Package: Sendable, Codable, Equatable {
  public struct File: Sendable, Codable, Equatable {
    public var name: String
    public var digest: Digest
    public var bytes: Int

    public init(name: String, digest: Digest, bytes: Int) {
      self.name = name
      self.digest = digest
      self.bytes = bytes
    }
  }

  /// In the order of their names. Weights are what takes long to fetch.
  public var files: [File]

  public init(files: [File]) { self.files = files.sorted { $0.name < $1.name } }

  /// Lists a folder's files and puts their content into `store`. Hidden files are left out.
  ///
  /// Throws where the folder holds no file, another folder, or a name that could not be sent.
  public init(folder: URL, store: some BlobStore) async throws {
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
      throw PeatError.inputOutput(
        "Can't read the emulator's folder '\(folder.path)': \(error.localizedDescription)",
        cause: error)
    }
    var files: [File] = []
    for name in names.sorted() where !name.hasPrefix(".") {
      let url = folder.appendingPathComponent(name)
      let digest = try await store.put(contentsOf: url)
      files.append(File(name: name, digest: digest, bytes: try await store.size(of: digest)))
    }
    self.init(files: files)
    try validate(sizeLimit: .max)
  }

  public var bytes: Int { files.reduce(0) { $0 + $1.bytes } }

  /// Names the package: the digest of its files' names and digests.
  public var digest: Digest {
    let lines = files.map { "\($0.name)\0\($0.digest)\0\($0.bytes)\n" }.joined()
    return Digest(of: Data(lines.utf8))
  }

  /// Checks a package that came over the network: it may only fill a folder of its own, to a limit.
  public func validate(sizeLimit: Int) throws {
    guard (1...256).contains(files.count) else {
      throw PeatError.badData("A package holds 1 to 256 files, found \(files.count).")
    }
    var seen: Set<String> = []
    var total = 0
    for file in files {
      guard Self.isPlain(file.name), seen.insert(file.name.lowercased()).inserted else {
        throw PeatError.badData(
          "A package can't hold a file named '\(file.name.prefix(80))': names are different from "
            + "each other, made of letters, digits, '.', '_' and '-', and begin with a letter or "
            + "digit.")
      }
      let (sum, overflow) = total.addingReportingOverflow(file.bytes)
      guard file.bytes >= 0, !overflow else {
        throw PeatError.badData("The package gives '\(file.name)' \(file.bytes) bytes.")
      }
      total = sum
    }
    guard total <= sizeLimit else {
      throw PeatError.badData(
        "The emulator takes \(total) bytes; this client accepts \(sizeLimit). Raise its limit, or "
          + "ask for a smaller emulator.")
    }
  }

  private static func isPlain(_ name: String) -> Bool {
    func isWord(_ byte: UInt8) -> Bool {
      (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
    let bytes = name.utf8
    guard (1...128).contains(bytes.count), let first = bytes.first, isWord(first) else {
      return false
    }
    return bytes.allSatisfy { isWord($0) || $0 == 46 || $0 == 95 || $0 == 45 }
  }
}

extension Package.File {
  /// Whether it holds weights, which take long to fetch; the others say what they are of.
  var isWeights: Bool { name.hasSuffix(".safetensors") }
  var isOutline: Bool { !isWeights }
}
