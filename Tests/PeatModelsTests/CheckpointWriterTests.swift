import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("CheckpointWriter") struct CheckpointWriterTests {
  private func files(_ folder: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  private func write(
    _ checkpoint: Checkpoint, to folder: URL, files: [String: Data] = [:]
  ) throws {
    let types = checkpoint.storageTypes
    try CheckpointWriter.write(
      to: folder, tensors: checkpoint.tensors(), configuration: checkpoint.configurationJSON,
      type: { types[$0] ?? .float32 }, otherFiles: files)
  }

  /// Of all files of a folder that hold the model's weights; a golden one has others, too.
  private func weightBytes(_ folder: URL) throws -> Int {
    try files(folder).filter { $0.hasPrefix("model") && $0.hasSuffix(".safetensors") }.reduce(0) {
      sum, name in
      let path = folder.appendingPathComponent(name).path
      return sum + (try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0)
    }
  }

  @Test(arguments: ["llama-tiny", "llama-tiny-bf16", "gpt2-tiny-f16"])
  func `a rewritten folder keeps values, types, configuration and digest`(name: String) throws {
    let checkpoint = try TinyModel.checkpoint(name)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("model")
      try write(checkpoint, to: folder, files: ["tokenizer.json": Data("{}".utf8)])
      #expect(try files(folder) == ["config.json", "model.safetensors", "tokenizer.json"])
      #expect(try files(scratch) == ["model"])
      let again = try Checkpoint(folder: folder)
      #expect(again.storageTypes == checkpoint.storageTypes)
      #expect(again.storageType == checkpoint.storageType)
      // llama-tiny-bf16 has three headers.
      for (folder, own) in [(checkpoint.folder, checkpoint), (folder, again)] {
        #expect(own.byteCount == (try weightBytes(folder)))
      }
      #expect(again.configurationJSON == checkpoint.configurationJSON)
      #expect(try again.tensors() == checkpoint.tensors())
      // llama-tiny-bf16 lies in three files, the copy in one.
      #expect(again.digest() == checkpoint.digest())
      #expect(try again.tokenizerFiles() == ["tokenizer.json": Data("{}".utf8)])
    }
  }

  /// Written with the model's own weights, these make the checkpoint whole again.
  @Test(arguments: ["clip", "clip-classes", "bert", "vit", "llama", "t5"])
  func `weights of parts that are not computed can be kept`(name: String) throws {
    let checkpoint = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
    let model = try checkpoint.model()
    let unused = checkpoint.unusedWeights(beside: model)
    let own = Set(model.parameters.map(\.name))
    #expect(own.isDisjoint(with: unused.keys))
    #expect(unused.isEmpty == ["llama", "t5"].contains(name))
    if name.hasPrefix("clip") {
      #expect(unused["vision_model.post_layernorm.weight"]?.shape == [16])
    }
    let prefix = model.configuration.keys.optionalPrefix ?? ""
    func whole(_ names: some Sequence<String>) -> Set<String> {
      Set(names.map { $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0 })
    }
    #expect(whole(checkpoint.storedCounts.keys) == whole(own.union(unused.keys)))
    // A head that another one takes the place of is gone.
    if name == "bert" {
      let classes = try checkpoint.classifying(["a", "b"], seed: 1)
      // The pooler stands below such a head.
      #expect(try classes.unusedWeights(beside: classes.model()).isEmpty)
    }
  }

  @Test func `the digest is of the tensors, not of their files`() throws {
    let checkpoint = try TinyModel.checkpoint("llama-tiny")
    let tensors = try checkpoint.tensors()
    try withTemporaryFolder { folder in
      try JSONFile.write(
        checkpoint.configurationJSON, to: folder.appendingPathComponent("config.json"))
      var map: [String: String] = [:]
      for (number, names) in [
        tensors.keys.filter { $0.count % 2 == 0 }, tensors.keys.filter { $0.count % 2 == 1 },
      ].enumerated() {
        let name = "part-\(number).safetensors"
        let part = tensors.filter { names.contains($0.key) }
        #expect(!part.isEmpty)
        try SafeTensors.write(part, to: folder.appendingPathComponent(name))
        for tensor in part.keys { map[tensor] = name }
      }
      try JSONFile.write(
        ["weight_map": map], to: folder.appendingPathComponent("model.safetensors.index.json"))
      let sharded = try Checkpoint(folder: folder)
      #expect(sharded.digest() == checkpoint.digest())
      #expect(
        try sharded.model().logits(someTokens, length: 9)
          == checkpoint.model().logits(someTokens, length: 9))
    }
    #expect(checkpoint.digest() == tensors.digest)
    // One bit, one name or one shape more makes another digest.
    let changed = tensors.copied()
    changed["model.norm.weight"]?.pointer[3] += 1e-6
    #expect(changed.digest != tensors.digest)
    var renamed = tensors
    renamed["model.norm.weights"] = renamed.removeValue(forKey: "model.norm.weight")
    #expect(renamed.digest != tensors.digest)
    var reshaped = tensors
    reshaped["model.norm.weight"] = tensors["model.norm.weight"]?.reshaped([1, 32])
    #expect(reshaped.digest != tensors.digest)
  }

  @Test func `a folder of ours is replaced, and nothing of the old one stays`() throws {
    let checkpoint = try TinyModel.checkpoint("llama-tiny")
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("model")
      try write(checkpoint, to: folder, files: ["emulator.json": Data("{}".utf8)])
      try write(checkpoint, to: folder)
      #expect(try files(folder) == ["config.json", "model.safetensors"])
      #expect(try files(scratch) == ["model"])
    }
  }

  @Test func `a folder with anything else is left alone`() throws {
    let checkpoint = try TinyModel.checkpoint("llama-tiny")
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("precious")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try Data("thesis".utf8).write(to: folder.appendingPathComponent("thesis.txt"))
      let error = #expect(throws: PeatError.self) { try write(checkpoint, to: folder) }
      #expect(error?.code == .inputOutput)
      #expect(error?.message.contains("thesis.txt") == true)
      #expect(try files(folder) == ["thesis.txt"])
      #expect(try files(scratch) == ["precious"])
      // A file in the folder's place is no folder of ours either.
      let file = scratch.appendingPathComponent("file")
      try Data("x".utf8).write(to: file)
      #expect(throws: PeatError.self) { try write(checkpoint, to: file) }
      #expect(try Data(contentsOf: file) == Data("x".utf8))
    }
  }

  @Test func `a write that fails half-way leaves the old folder whole`() throws {
    let checkpoint = try TinyModel.checkpoint("llama-tiny")
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("model")
      try write(checkpoint, to: folder)
      let before = try Data(contentsOf: folder.appendingPathComponent("model.safetensors"))
      // A name that can't be a file makes the last of the writes fail.
      let error = #expect(throws: PeatError.self) {
        try write(checkpoint, to: folder, files: ["no/such/folder.json": Data("{}".utf8)])
      }
      #expect(error?.code == .inputOutput)
      #expect(try files(scratch) == ["model"])
      #expect(try files(folder) == ["config.json", "model.safetensors"])
      #expect(try Data(contentsOf: folder.appendingPathComponent("model.safetensors")) == before)
      // The same where there was nothing before.
      let other = scratch.appendingPathComponent("other")
      #expect(throws: PeatError.self) {
        try write(checkpoint, to: other, files: ["no/such/folder.json": Data("{}".utf8)])
      }
      #expect(try files(scratch) == ["model"])
    }
  }
}
