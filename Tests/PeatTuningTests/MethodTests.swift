import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// What is true of every method, on both kinds of model.
@Suite("Tuning methods") struct MethodTests {
  /// All methods with small sizes; those that a model can't have are left out.
  static func methods(of model: String) throws -> [Adapter.Method] {
    var options = MethodOptions()
    (options.rank, options.alpha, options.virtualTokens, options.bottleneckSize) = (3, 6, 4, 5)
    return try Adapter.Method.names.filter { model != "llama-tiny" || $0 != BitFit.name }
      .map { try options.method(named: $0) }
  }

  /// An adapter of a method that does something.
  static func active(
    _ method: Adapter.Method, for model: TransformerModel, blocks: [Int]? = nil,
    seed: UInt64 = 1
  ) throws -> Adapter {
    var adapter = try Adapter(
      new: method, for: model, blocks: blocks ?? [0, model.blocks.count - 1], seed: seed,
      sourceDigest: nil)
    var random = SeededRandom(seed: seed, "active")
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key }) {
      let noise = randomTensor(tensor.shape, &random, scale: 0.2)
      adapter.state[name] = Tensor(
        zip(tensor.scalars, noise.scalars).map { $0 + $1 }, shape: tensor.shape)
    }
    return adapter
  }

  static let names = ["llama-tiny", "gpt2-tiny"]

  @Test(arguments: names)
  func `an adapter acts, leaves no trace, and merges where it says so`(name: String) throws {
    let model = try checkpoint(name).model()
    let own = model.someLogits
    let tensors = model.tensors.digest
    for method in try Self.methods(of: name) {
      let adapter = try Self.active(method, for: model)
      let injected = try adapter.inject(into: model)
      let tuned = model.someLogits
      #expect(Difference(tuned, own).relative > 1e-3, "\(method.name)")
      #expect(injected.state == adapter.state)
      expectError(.badData, "remove it first") { _ = try adapter.inject(into: model) }
      injected.remove()
      #expect(model.someLogits == own && model.tensors.digest == tensors, "\(method.name)")
      guard method.isMergeable else {
        expectError(.usage, "merging") {
          _ = try PlugIn.mergedTensors(adapter, into: model, digest: tensors)
        }
        continue
      }
      let merged = try PlugIn.mergedTensors(adapter, into: model, digest: tensors)
      #expect(!merged.replaced.isEmpty)
      let plain = try TransformerModel(
        configuration: model.configuration, tensors: merged.tensors, source: "merged")
      expectClose(plain.someLogits, tuned, within: 2e-6, "\(method.name) merged")
    }
  }

  @Test(arguments: names)
  func `adapters are held, switched and merged, and the model stays itself`(name: String) throws {
    let model = try checkpoint(name).model()
    let own = model.someLogits
    let set = AdapterSet(model, digest: model.tensors.digest)
    var logits: [String: Tensor] = [:]
    for method in try Self.methods(of: name) {
      let adapter = try Self.active(method, for: model)
      try set.add(adapter, as: method.name)
      #expect(set.active == nil && model.someLogits == own)
      try set.activate(method.name)
      logits[method.name] = model.someLogits
      set.deactivate()
      #expect(model.someLogits == own)
    }
    #expect(set.names == logits.keys.sorted())
    // From one to the next.
    for (name, expected) in logits.sorted(by: { $0.key < $1.key }) {
      try set.activate(name)
      #expect(set.active == name && !set.isMerged && model.someLogits == expected, "\(name)")
    }
    for (name, expected) in logits.sorted(by: { $0.key < $1.key }) {
      let adapter = try #require(set[name])
      guard adapter.method.isMergeable else {
        expectError(.usage, "merging") { try set.merge(name) }
        #expect(set.active == nil && model.someLogits == own)
        continue
      }
      try set.merge(name)
      #expect(set.isMerged)
      expectClose(model.someLogits, expected, within: 2e-6, "\(name) merged")
    }
    // Adding one while another acts changes nothing.
    try set.activate(LoRA.name)
    try set.add(try Self.active(.normTuning, for: checkpoint(name).model()), as: "more")
    #expect(set.active == LoRA.name && model.someLogits == logits[LoRA.name])
    expectError(.usage, "already") {
      try set.add(try Self.active(.normTuning, for: checkpoint(name).model()), as: "more")
    }
    expectError(.usage, "no adapter 'mor'", "Did you mean 'more'") { try set.activate("mor") }
    try set.remove(LoRA.name)
    #expect(set.active == nil && model.someLogits == own && set[LoRA.name] == nil)
  }

  @Test(arguments: names)
  func `threads and blocks computed twice change nothing but rounding`(name: String) throws {
    for method in try Self.methods(of: name) + [
      .lora(try LoRAConfiguration(rank: 3, alpha: 6, dropout: 0.3))
    ] {
      func gradient(_ threads: Int, _ checkpointing: Bool) throws -> Tensor {
        let model = try checkpoint(name).model()
        let injected = try Self.active(method, for: model).inject(into: model)
        let trainer = try Trainer(
          model, parameters: injected.parameters.map(\.parameter),
          data: TokenDataset(randomSequences(6), .stream(context: 12)),
          configuration: TrainingConfiguration(
            steps: 2, batch: 3, context: 12, learningRate: 1e-2, checkpointing: checkpointing,
            seed: 3, threads: threads))
        defer { trainer.finish() }
        return Tensor(trainer.gradient())
      }
      let one = try gradient(1, false)
      #expect(one.scalars.contains { $0 != 0 })
      for (threads, checkpointing) in [(1, true), (2, false), (3, true)] {
        let other = try gradient(threads, checkpointing)
        #expect(Difference(other, one).relative < 1e-5, "\(method.name), \(threads) threads")
      }
    }
  }

  @Test(arguments: names) func `every method learns`(name: String) throws {
    for method in try Self.methods(of: name) + [
      .lora(try LoRAConfiguration(rank: 3, alpha: 6, dropout: 0.1))
    ] {
      let model = try checkpoint(name).model()
      let adapter = try Adapter(
        new: method, for: model, blocks: Array(model.blocks.indices), seed: 2, sourceDigest: nil)
      let injected = try adapter.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: TokenDataset(randomSequences(3), .stream(context: 10)),
        configuration: TrainingConfiguration(
          steps: 40, batch: 3, context: 10, learningRate: 1e-2, seed: 3))
      let first = try trainer.advance().loss
      var last = first
      while !trainer.isFinished { last = try trainer.advance().loss }
      trainer.finish()
      #expect(last < first - 0.05, "\(method.name): \(first) to \(last)")
      injected.remove()
    }
  }

  @Test(arguments: names) func `a folder keeps an adapter`(name: String) throws {
    let model = try checkpoint(name).model()
    for method in try Self.methods(of: name) {
      let adapter = try Self.active(method, for: model)
      try withTemporaryFolder { scratch in
        let folder = scratch.appendingPathComponent("adapter")
        func write(_ state: NamedTensors) throws {
          try AdapterFolder.write(
            Adapter(method: method, state: state, sourceDigest: nil),
            facts: .init(
              method: method.name, sourceDigest: nil, modelDigest: nil,
              split: .init(bottom: 1, emulator: model.blocks.count - 2, top: 1),
              blockMap: Dictionary(
                uniqueKeysWithValues: model.blocks.indices.map { (String($0), $0) })),
            configuration: model.configuration, baseModel: "base", to: folder)
        }
        try write(adapter.state)
        let (again, facts) = try AdapterFolder.read(folder, for: model)
        #expect(again.state == adapter.state && again.method.name == method.name)
        #expect(facts?.method == method.name)
        let injected = try again.inject(into: model)
        let expected = model.someLogits
        injected.remove()
        let first = try adapter.inject(into: model)
        #expect(model.someLogits == expected)
        first.remove()
        // Not a number.
        let key = try #require(adapter.state.keys.min())
        var broken = adapter.state
        broken[key] = Tensor(repeating: .nan, shape: try #require(broken[key]).shape)
        try write(broken)
        expectError(.badData, "NaN", key.split(separator: ".").last.map(String.init) ?? key) {
          _ = try AdapterFolder.read(folder, for: model)
        }
      }
    }
  }

  @Test(arguments: names) func `bad adapters are refused with the reason`(name: String) throws {
    let model = try checkpoint(name).model()
    let digest = model.tensors.digest
    let own = model.someLogits
    for method in try Self.methods(of: name) {
      var adapter = try Self.active(method, for: model)
      let key = try #require(adapter.state.keys.min())
      let tensor = try #require(adapter.state[key])
      // Another shape, a stranger, nothing at all.
      adapter.state[key] = Tensor(zeros: tensor.shape.map { $0 + 1 })
      expectError(.badData) { _ = try adapter.inject(into: model) }
      adapter.state[key] = tensor
      adapter.state["stranger"] = tensor
      expectError(.badData, "stranger") { _ = try adapter.inject(into: model) }
      adapter.state = [:]
      expectError(.badData) { _ = try adapter.inject(into: model) }
      // Made for another model.
      var foreign = try Self.active(method, for: model)
      foreign.sourceDigest = ["w": Tensor(zeros: [1])].digest
      expectError(.badData, "digest") { _ = try PlugIn(foreign, into: model, digest: digest) }
      #expect(model.someLogits == own, "\(method.name)")
    }
    // One method's tensors under another's name.
    let lora = try Self.active(.lora(try LoRAConfiguration(rank: 3, alpha: 6)), for: model)
    let dora = try Self.active(
      .lora(try LoRAConfiguration(rank: 3, alpha: 6, usesMagnitudes: true)), for: model)
    expectError(.badData, "lora_magnitude_vector") {
      _ = try Adapter(method: dora.method, state: lora.state, sourceDigest: nil)
        .inject(into: model)
    }
    expectError(.badData, "lora_magnitude_vector") {
      _ = try Adapter(method: lora.method, state: dora.state, sourceDigest: nil)
        .inject(into: model)
    }
  }

  @Test func `a model without biases has nothing for bitfit`() throws {
    let model = try checkpoint("llama-tiny").model()
    expectError(.usage, "no biases", "norm-tuning") {
      _ = try Adapter(new: .bitFit, for: model, blocks: [0], seed: 1, sourceDigest: nil)
    }
  }

  @Test func `LoRA's layers, ranks and targets are chosen by name`() throws {
    let model = try checkpoint("gpt2-tiny").model()
    func state(_ configuration: LoRAConfiguration) throws -> NamedTensors {
      try Adapter(
        new: .lora(configuration), for: model, blocks: [0, 2], seed: 1, sourceDigest: nil
      ).state
    }
    let some = try state(
      LoRAConfiguration(
        rank: 4, targetModules: ["c_attn", "mlp.c_proj"], rankPattern: ["mlp.c_proj": 2],
        layers: [2]))
    #expect(
      some.mapValues { $0.shape[0] }.filter { $0.key.hasSuffix("lora_A.weight") } == [
        "base_model.model.transformer.h.2.attn.c_attn.lora_A.weight": 4,
        "base_model.model.transformer.h.2.mlp.c_proj.lora_A.weight": 2,
      ])
    #expect(
      try state(LoRAConfiguration(targetModules: ["all-linear"])).count
        == state(LoRAConfiguration()).count)
    expectError(.usage, "Layer 1", "0, 2") { _ = try state(LoRAConfiguration(layers: [1])) }
    expectError(.usage, "'q_proj'", "c_attn") {
      _ = try state(LoRAConfiguration(targetModules: ["q_proj"]))
    }
    expectError(.usage, "'c_atn'", "attn.c_attn") {
      _ = try state(LoRAConfiguration(rankPattern: ["c_atn": 2]))
    }
    expectError(.usage, "dropout of 1") { _ = try LoRAConfiguration(dropout: 1) }
  }

  @Test func `layers are chosen and left out by regular expressions and by whole names`() throws {
    let model = try checkpoint("gpt2-tiny").model()
    let prefix = "base_model.model.transformer.h."
    func layers(_ method: Adapter.Method) throws -> Set<String> {
      let state = try Adapter(
        new: method, for: model, blocks: [0, 2], seed: 1, sourceDigest: nil
      ).state
      return Set(
        state.keys.compactMap { name in
          [".lora_A.weight", ".ia3_l"].first { name.hasSuffix($0) }.map {
            String(name.dropFirst(prefix.count).dropLast($0.count))
          }
        })
    }
    func lora(_ targets: [String]?, without excluded: [String]? = nil) throws -> Set<String> {
      try layers(.lora(LoRAConfiguration(targetModules: targets, excludedModules: excluded)))
    }
    #expect(
      try lora([#".*h\.0\..*(c_attn|c_fc)"#, "mlp.c_proj"]) == [
        "0.attn.c_attn", "0.mlp.c_fc", "0.mlp.c_proj", "2.mlp.c_proj",
      ])
    // As `re.fullmatch` of whole names: a look-ahead sees the whole of them.
    #expect(
      try lora([#"(?!.*mlp).*c_(attn|proj)"#]) == [
        "0.attn.c_attn", "0.attn.c_proj", "2.attn.c_attn", "2.attn.c_proj",
      ])
    #expect(
      try lora(nil, without: ["c_proj", #".*h\.2\.mlp\..*"#]) == [
        "0.attn.c_attn", "0.mlp.c_fc", "2.attn.c_attn",
      ])
    #expect(
      try lora(["h.0.attn.c_attn", "h.2.mlp.c_fc"]) == ["0.attn.c_attn", "2.mlp.c_fc"])
    #expect(
      try lora(["all-linear"], without: ["h.0.attn.c_attn"]).count == 7)
    #expect(
      try layers(.ia3(IA3Configuration(excludedModules: ["mlp.c_proj"]))) == [
        "0.attn.c_attn", "2.attn.c_attn",
      ])
    #expect(
      try layers(
        .ia3(
          IA3Configuration(
            targetModules: [#".*h\.0\..*c_(attn|fc)"#], feedForwardModules: ["mlp.c_fc"]))) == [
          "0.attn.c_attn", "0.mlp.c_fc",
        ])
    // What lies in other blocks than those that get one is there all the same.
    #expect(
      try layers(
        .lora(
          LoRAConfiguration(
            targetModules: ["c_attn"], excludedModules: ["h.0.attn.c_attn"], layers: [2])))
        == ["2.attn.c_attn"])
    expectError(.usage, "None of the blocks 2", "attn.c_attn") {
      _ = try layers(
        .lora(LoRAConfiguration(targetModules: ["h.0.attn.c_attn"], layers: [2])))
    }
    expectError(.usage, "several names", "[c_attn, c_fc]") { _ = try lora(["c_attn,c_fc"]) }
    expectError(.usage, "No layer that gets LoRA", "There are: mlp.c_fc.") {
      _ = try layers(
        .lora(
          LoRAConfiguration(
            targetModules: ["c_fc", "c_attn"], excludedModules: ["c_attn"],
            rankPattern: ["c_attn": 2])))
    }
    expectError(.usage, "'c_atn'", "excluded") { _ = try lora(nil, without: ["c_atn"]) }
    expectError(.usage, "'.*q_proj'", "attn.c_attn", "transformer.h.0.") {
      _ = try lora([".*q_proj"])
    }
    expectError(.usage, "whole of a name") { _ = try lora(["c_(attn|fc)"]) }
    expectError(.usage, "h.1.attn.c_attn") { _ = try lora(["h.1.attn.c_attn"]) }
    expectError(.usage, "can be read") { _ = try lora(["(q_proj"]) }
    expectError(.usage, "No target module is left", "c_attn") {
      _ = try lora(["c_attn"], without: [#".*c_attn"#])
    }
    expectError(.usage, "'mlp.c_fc'", "targets") {
      _ = try layers(
        .ia3(
          IA3Configuration(
            targetModules: [#".*h\.0\..*c_attn"#], feedForwardModules: ["mlp.c_fc"])))
    }
  }

  @Test(arguments: [false, true]) func `dropout acts in training alone`(magnitudes: Bool) throws {
    let model = try checkpoint().model()
    var states: [NamedTensors] = []
    var logits: [Tensor] = []
    for dropout in [0, 0.4] {
      let method = Adapter.Method.lora(
        try LoRAConfiguration(
          rank: 3, alpha: 6, dropout: dropout, usesMagnitudes: magnitudes))
      let injected = try Self.active(method, for: model).inject(into: model)
      logits.append(model.someLogits)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: TokenDataset(randomSequences(6), .stream(context: 12)),
        configuration: TrainingConfiguration(
          steps: 3, batch: 2, context: 12, learningRate: 1e-2, seed: 3))
      while !trainer.isFinished { _ = try trainer.advance() }
      trainer.finish()
      states.append(injected.state)
      injected.remove()
    }
    #expect(logits[0] == logits[1])
    #expect(states[0] != states[1])
  }

  /// y = W·x + b + (m / ‖W + s·B·A‖ − 1)·W·d + m / ‖W + s·B·A‖ · s·B·A·d, d the dropped x: `DoraLinearVariant.forward` of PEFT 0.21.
  @Test func `in training DoRA adds to W what it makes of dropped values, as PEFT does`() throws {
    let model = try checkpoint("gpt2-tiny").model()
    let method = Adapter.Method.lora(
      try LoRAConfiguration(rank: 3, alpha: 6, dropout: 0.4, usesMagnitudes: true))
    let injected = try Self.active(method, for: model).inject(into: model)
    defer { injected.remove() }
    let layer = try #require(model.blocks[0].linears.first)
    let pair = try #require(layer.lowRank)
    let lengths = try #require(layer.magnitude).parameter.tensor.scalars.map(Double.init)
    let (inputs, outputs, rows) = (layer.inputs, layer.outputs, 4)
    func tape() -> Tape {
      let tape = Tape()
      tape.dropoutPlace = DropoutPlace(seed: 9, step: 1, firstRow: 0)
      return tape
    }
    var random = SeededRandom(seed: 3, "input")
    let x = randomTensor([rows, inputs], &random)
    let working = tape()
    let found = layer(working.input(x), on: working).tensor().scalars
    let masking = tape()
    let mask = masking.dropout(
      masking.input(Tensor(repeating: 1, shape: [rows, inputs])), rate: 0.4, scale: 1,
      key: pair.dropoutKey
    ).tensor().scalars
    #expect(mask.contains(0))

    let (a, b) = (pair.down.tensor.scalars, pair.up.tensor.scalars)
    let bias = layer.bias?.tensor.scalars ?? []
    // GPT-2's matrices are inputs by outputs.
    let weight = layer.weight.tensor.scalars.map(Double.init)
    var expected: [Double] = []
    for row in 0..<rows {
      for output in 0..<outputs {
        var (whole, own, low, square) = (0.0, 0.0, 0.0, 0.0)
        for input in 0..<inputs {
          let w = weight[input * outputs + output]
          let added = (0..<3).reduce(0.0) {
            $0 + Double(b[output * 3 + $1]) * Double(a[$1 * inputs + input])
          }
          let value = Double(x.scalars[row * inputs + input])
          let dropped = value * Double(mask[row * inputs + input])
          whole += w * value
          own += w * dropped
          low += 2 * added * dropped
          square += (w + 2 * added) * (w + 2 * added)
        }
        let factor = lengths[output] / square.squareRoot()
        expected.append(whole + Double(bias[output]) + (factor - 1) * own + factor * low)
      }
    }
    let size = expected.map(abs).max() ?? 1
    #expect(zip(found, expected).allSatisfy { abs(Double($0) - $1) < 1e-5 * size })
  }

  @Test func `DoRA on packed weights is DoRA on what they stand for`() throws {
    let method = Adapter.Method.lora(
      try LoRAConfiguration(rank: 3, alpha: 6, usesMagnitudes: true))
    let packed = try checkpoint().model(storage: .all(.int8))
    let dense = try TransformerModel(
      configuration: packed.configuration, tensors: packed.tensors, source: "unpacked")
    let adapter = try Self.active(method, for: dense)
    _ = try adapter.inject(into: packed)
    _ = try adapter.inject(into: dense)
    expectClose(packed.someLogits, dense.someLogits, within: 1e-5, "int8")
  }
}
