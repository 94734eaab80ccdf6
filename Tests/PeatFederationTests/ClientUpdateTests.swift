import Foundation
import PeatFederation
import PeatTensor
import Testing

@Suite("ClientUpdate") struct ClientUpdateTests {
  @Test func `a folder gives back what was written`() throws {
    try inTemporaryFolder { folder in
      let tensors: NamedTensors = ["x.lora_A": Tensor([1, 2, 3, 4], shape: [2, 2]), "y": [-0.5]]
      let update = ClientUpdate(
        header: UpdateHeader(
          run: "run-1", round: 3, client: "anna", exampleCount: 42, baseDigest: tensors.digest,
          method: "lora", rank: 8, alpha: 16, metrics: ["loss": 1.25],
          telemetry: Telemetry(
            bytesDown: 1, bytesUp: 2, downloadSeconds: 0.5, computeSeconds: 1.5,
            uploadSeconds: 0.25, peakMemoryBytes: 3, freeMemoryBytes: 4, tokens: 5)),
        tensors: tensors)
      let place = folder.appendingPathComponent("update")
      try update.write(to: place)
      #expect(try ClientUpdate(contentsOf: place) == update)

      let json = try JSONSerialization.jsonObject(
        with: Data(contentsOf: place.appendingPathComponent("update.json")))
      let object = try #require(json as? [String: Any])
      #expect(
        Set(object.keys) == [
          "formatVersion", "run", "round", "client", "exampleCount", "baseDigest", "method",
          "rank", "alpha", "metrics", "telemetry",
        ])
      #expect(object["formatVersion"] as? Int == 1)
    }
  }

  @Test func `a missing part, another version and broken JSON are told apart`() throws {
    try inTemporaryFolder { folder in
      #expect(throws: PeatError.self) { try ClientUpdate(contentsOf: folder) }
      let update = ClientUpdate(["a": [1]], exampleCount: 1)
      let place = folder.appendingPathComponent("u")
      try update.write(to: place)
      let header = place.appendingPathComponent("update.json")
      let text = try String(contentsOf: header, encoding: .utf8)

      try Data(text.replacing("\"formatVersion\" : 1", with: "\"formatVersion\" : 2").utf8)
        .write(to: header)
      let version = #expect(throws: PeatError.self) { try ClientUpdate(contentsOf: place) }
      #expect(version?.message.contains("formatVersion 2") == true)

      try Data("{\"formatVersion\": 1".utf8).write(to: header)
      let broken = #expect(throws: PeatError.self) { try ClientUpdate(contentsOf: place) }
      #expect(broken?.code == .badData)

      try Data(text.utf8).write(to: header)
      try Data([1, 2, 3]).write(to: place.appendingPathComponent("update.safetensors"))
      let tensors = #expect(throws: PeatError.self) { try ClientUpdate(contentsOf: place) }
      #expect(tensors?.code == .badData)
    }
  }

  @Test func `a folder that holds something else is not overwritten`() throws {
    try inTemporaryFolder { folder in
      try Data("mine".utf8).write(to: folder.appendingPathComponent("thesis.txt"))
      #expect(throws: PeatError.self) {
        try ClientUpdate(["a": [1]], exampleCount: 1).write(to: folder)
      }
    }
  }
}

@Suite("UpdatePolicy") struct UpdatePolicyTests {
  let base: NamedTensors = ["a": [0, 0], "b": Tensor([0, 0, 0, 0], shape: [2, 2])]

  var policy: UpdatePolicy {
    UpdatePolicy(
      run: "r", round: 2, base: base, method: "lora", rank: 4, alpha: 8, sizeLimit: 1000)
  }

  var header: UpdateHeader {
    UpdateHeader(
      run: "r", round: 2, client: "c", exampleCount: 5, baseDigest: base.digest, method: "lora",
      rank: 4, alpha: 8, metrics: ["loss": 2])
  }

  @Test func `a good update passes`() throws {
    try policy.check(header, from: "c", bytes: 1000)
    try policy.check(base)
  }

  @Test func `an update that is too far from the adapter is refused`() throws {
    var policy = policy
    // A difference of norm 5.
    let far: NamedTensors = ["a": [3, 0], "b": Tensor([0, 4, 0, 0], shape: [2, 2])]
    try policy.check(far)
    policy.normLimit = 5
    try policy.check(far)
    policy.normLimit = 4.99
    let refusal = #expect(throws: UpdateRefusal.self) { try policy.check(far) }
    #expect(refusal?.code == .tooFar && refusal?.message.contains("4.99") == true)
    let huge: NamedTensors = ["a": [1e13, 0], "b": Tensor([0, 0, 0, 0], shape: [2, 2])]
    policy.normLimit = nil
    #expect(throws: UpdateRefusal.self) { try policy.check(huge) }
  }

  @Test func `values that no training gets to are refused, by what they were`() throws {
    var policy = policy
    func with(_ value: Float) -> NamedTensors {
      ["a": [value, 0], "b": Tensor([0, 0, 0, 0], shape: [2, 2])]
    }
    try policy.check(with(-9_999))
    let refusal = #expect(throws: UpdateRefusal.self) { try policy.check(with(-10_001)) }
    #expect(refusal?.code == .tooFar && refusal?.message.contains("'a'") == true)
    // Where values are large, so are steps.
    policy.base["a"] = [50, -20]
    #expect(try policy.check(with(4.9e5)) > 4e5)
    #expect(throws: UpdateRefusal.self) { try policy.check(with(5.1e5)) }
  }

  struct BadHeader: Sendable, CustomTestStringConvertible {
    let code: UpdateRefusal.Code
    let testDescription: String
    let change: @Sendable (inout UpdateHeader) -> Void

    init(
      _ code: UpdateRefusal.Code, _ description: String,
      _ change: @escaping @Sendable (inout UpdateHeader) -> Void
    ) {
      self.code = code
      testDescription = description
      self.change = change
    }
  }

  static let badHeaders = [
    BadHeader(.wrongRun, "another run") { $0.run = "other" },
    BadHeader(.wrongRound, "an earlier round") { $0.round = 1 },
    BadHeader(.wrongRound, "a later round") { $0.round = 3 },
    BadHeader(.wrongClient, "another's name") { $0.client = "d" },
    BadHeader(.wrongBase, "another base") { $0.baseDigest = Digest(of: []) },
    BadHeader(.wrongBase, "no base") { $0.baseDigest = nil },
    BadHeader(.wrongMethod, "another method") { $0.method = "dora" },
    BadHeader(.wrongRank, "another rank") { $0.rank = 8 },
    BadHeader(.wrongRank, "no rank") { $0.rank = nil },
    BadHeader(.wrongAlpha, "another alpha") { $0.alpha = 16 },
    BadHeader(.wrongAlpha, "alpha that is no number") { $0.alpha = .nan },
    BadHeader(.exampleCount, "no examples") { $0.exampleCount = 0 },
    BadHeader(.exampleCount, "negative examples") { $0.exampleCount = -1 },
    BadHeader(.exampleCount, "absurdly many examples") { $0.exampleCount = .max },
    BadHeader(.metrics, "a metric that is no number") { $0.metrics["loss"] = .nan },
    BadHeader(.metrics, "an infinite metric") { $0.metrics["x"] = .infinity },
    BadHeader(.metrics, "too many metrics") { header in
      for i in 0..<100 { header.metrics["m\(i)"] = 0 }
    },
    BadHeader(.metrics, "a metric with a huge name") {
      $0.metrics[String(repeating: "x", count: 65)] = 0
    },
    BadHeader(.telemetry, "negative bytes") { $0.telemetry.bytesUp = -1 },
    BadHeader(.telemetry, "negative tokens") { $0.telemetry.tokens = -5 },
    BadHeader(.telemetry, "seconds that are no number") { $0.telemetry.computeSeconds = .nan },
    BadHeader(.telemetry, "infinite seconds") { $0.telemetry.downloadSeconds = .infinity },
  ]

  @Test(arguments: badHeaders) func `a header is refused with`(_ bad: BadHeader) {
    var header = header
    bad.change(&header)
    let refusal = #expect(throws: UpdateRefusal.self) {
      try policy.check(header, from: "c", bytes: 10)
    }
    #expect(refusal?.code == bad.code)
    #expect(refusal?.message.isEmpty == false)
  }

  @Test func `a refusal says numbers as they are`() {
    var header = header
    header.rank = 8
    let refusal = #expect(throws: UpdateRefusal.self) {
      try policy.check(header, from: "c", bytes: 10)
    }
    #expect(refusal?.message == "The update's rank is 8; this round's is 4.")
    header.rank = nil
    let other = #expect(throws: UpdateRefusal.self) {
      try policy.check(header, from: "c", bytes: 10)
    }
    #expect(other?.message == "The update's rank is none; this round's is 4.")
  }

  @Test(arguments: [1001, .max, -1]) func `a size is refused`(bytes: Int) {
    let refusal = #expect(throws: UpdateRefusal.self) {
      try policy.check(header, from: "c", bytes: bytes)
    }
    #expect(refusal?.code == .tooLarge)
  }

  @Test func `tensors are refused with what is wrong with them`() {
    let cases: [(UpdateRefusal.Code, NamedTensors)] = [
      (.missingTensors, ["a": [0, 0]]),
      (.unknownTensors, base.merging(["c": [1]]) { $1 }),
      (.wrongShape, base.merging(["a": [0, 0, 0]]) { $1 }),
      (.wrongShape, base.merging(["b": [0, 0, 0, 0]]) { $1 }),
      (.notFinite, base.merging(["a": [0, .nan]]) { $1 }),
      (.notFinite, base.merging(["a": [-.infinity, 0]]) { $1 }),
    ]
    for (code, tensors) in cases {
      let refusal = #expect(throws: UpdateRefusal.self) { try policy.check(tensors) }
      #expect(refusal?.code == code)
    }
  }

  @Test func `a file that lies about its content is malformed`() throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("x")
      let good = SafeTensors.encode(base)
      try good.write(to: file)
      #expect(try policy.decode(file, header) == base)

      var hugeHeader = good
      hugeHeader.replaceSubrange(0..<8, with: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
      for bad in [Data(), good.dropLast(4), good + Data([0]), hugeHeader, Data("{}".utf8)] {
        try Data(bad).write(to: file)
        let refusal = #expect(throws: UpdateRefusal.self) { try policy.decode(file, header) }
        #expect(refusal?.code == .malformed)
        #expect(refusal?.message.contains(folder.path) == false)
      }
    }
  }
}
