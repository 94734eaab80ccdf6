import FedPEAT
import Foundation
import Testing

struct WorkFolderTests {
  @Test func `what a killed process left is deleted, and what is in use stays`() throws {
    let files = FileManager.default
    let parent = files.temporaryDirectory.appendingPathComponent("work-\(UUID().uuidString)")
    defer { try? files.removeItem(at: parent) }
    func put(_ name: String, age: TimeInterval) throws -> URL {
      let folder = parent.appendingPathComponent(name)
      try files.createDirectory(at: folder, withIntermediateDirectories: true)
      let lock = folder.appendingPathComponent(".in-use")
      try Data().write(to: lock)
      try files.setAttributes(
        [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: lock.path)
      return folder
    }
    let used = try WorkFolder(temporary: "join", in: parent)
    try files.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: -3600)],
      ofItemAtPath: used.url.appendingPathComponent(".in-use").path)
    let dead = try put("fedpeat-join-dead", age: 3600)
    let young = try put("fedpeat-join-young", age: 0)
    let other = try put("fedpeat-demo-dead", age: 3600)
    let foreign = try put("elsewhere", age: 3600)

    let mine = try WorkFolder(temporary: "join", in: parent)
    #expect(!files.fileExists(atPath: dead.path))
    for stays in [used.url, young, other, foreign, mine.url] {
      #expect(files.fileExists(atPath: stays.path), "\(stays.lastPathComponent)")
    }
    mine.remove()
    #expect(!files.fileExists(atPath: mine.url.path))
  }
}
