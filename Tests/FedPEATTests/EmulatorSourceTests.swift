import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("What a word in 'emulators' names") struct EmulatorSourceTests {
  private func check(_ words: String...) throws {
    var configuration = RunConfiguration()
    configuration.model = "model"
    configuration.emulators = words
    try configuration.validate()
  }

  @Test func `recipes are read, and one that needs a text is refused`() throws {
    try check("layer-drop=2", "low-rank=0.5,int8")
    expectError(.usage, "needs a text", "--calibration") { try check("importance=2") }
    expectError(.usage, "layer-drop=4") { try check("layer-drop") }
  }

  @Test func `what is neither is called that, with what may be meant`() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "emulators-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let emulator = folder.appendingPathComponent("emulator")
    try FileManager.default.createDirectory(at: emulator, withIntermediateDirectories: true)
    let plain = folder.appendingPathComponent("notes").path
    try FileManager.default.createDirectory(atPath: plain, withIntermediateDirectories: true)
    let facts = emulator.appendingPathComponent("emulator.json")
    try Data("{}".utf8).write(to: facts)
    // Whether it can be read is seen when it is opened.
    try check(emulator.path)
    expectError(.badData, "a file", "compress") { try check(facts.path) }
    expectError(.badData, "without an emulator", "emulator.json") { try check(plain) }
    expectError(.usage, "no such folder", "no recipe", "Did you mean the folder 'emulator'?") {
      try check(folder.appendingPathComponent("emulatr").path)
    }
    expectError(.usage, "no such folder", "Known: ") { try check("nonsense") }
    expectError(.usage, "Did you mean 'layer-drop'?") { try check("layerdrop=2") }
  }
}
