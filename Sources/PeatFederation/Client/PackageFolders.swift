import Foundation
import PeatTensor

/// A client's packages on disk: each a folder named by the package's digest, its files links to blobs.
struct PackageFolders: Sendable {
  private let folder: URL
  private let store: FolderBlobStore

  init(_ folder: URL, store: FolderBlobStore) throws {
    self.folder = folder
    self.store = store
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(folder.path)': \(error.localizedDescription)", cause: error)
    }
  }

  func url(of package: Package) -> URL { folder.appendingPathComponent(package.digest.hex) }

  func has(_ package: Package) -> Bool {
    FileManager.default.fileExists(atPath: url(of: package).path)
  }

  /// The packages that are here, complete.
  var held: [Digest] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.compactMap { Digest(hex: $0) }.sorted { $0.hex < $1.hex }
  }

  /// Whether each file still has its digest.
  func isIntact(_ package: Package) -> Bool {
    package.files.allSatisfy { file in
      let place = url(of: package).appendingPathComponent(file.name)
      return (try? FolderBlobStore.digest(of: place)) == file.digest
    }
  }

  /// Forgets a package and its blobs.
  func remove(_ package: Package) async {
    try? FileManager.default.removeItem(at: url(of: package))
    for file in package.files { await store.remove(file.digest) }
  }

  /// Makes the folder of a package whose blobs are all here.
  func make(_ package: Package) throws -> URL {
    let target = url(of: package)
    if !has(package) { try fill(target, package.files) }
    return target
  }

  /// Makes a folder of a package's files without its weights, beside the package's own.
  func makeOutline(of package: Package) throws -> URL {
    let target = folder.appendingPathComponent("\(package.digest.hex)-outline")
    try fill(target, package.files.filter(\.isOutline))
    return target
  }

  private func fill(_ target: URL, _ files: [Package.File]) throws {
    try AtomicOutput.folder(at: target, replacing: isAnything) { folder in
      for file in files {
        let source = store.url(of: file.digest)
        let place = folder.appendingPathComponent(file.name)
        do { try FileManager.default.linkItem(at: source, to: place) } catch {
          try FileManager.default.copyItem(at: source, to: place)
        }
      }
    }
  }
}

/// A package's folder is named by its content: whatever lies there may be replaced.
private func isAnything(_ name: String) -> Bool { true }
