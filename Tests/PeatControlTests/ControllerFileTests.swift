import Foundation
import PeatControl
import PeatNN
import PeatTensor
import TestSupport
import Testing

@Suite("Controller files") struct ControllerFileTests {
  private func shape() throws -> ControlShape {
    ControlShape(
      devices: 3, deviceFeatures: 5, globalFeatures: 2, branches: try .round(levels: 4))
  }

  @Test(arguments: NetworkConfiguration.Kind.allCases)
  func `a layout names every weight that a network has, and no other`(
    kind: NetworkConfiguration.Kind
  ) throws {
    let configuration = NetworkConfiguration(kind, width: 6, exchanges: 3)
    let network = try configuration.make(for: shape(), seed: 1)
    let own = Dictionary(uniqueKeysWithValues: network.parameters.map { ($0.name, $0.shape) })
    #expect(try configuration.layout(for: shape()) == own)
  }

  @Test(arguments: NetworkConfiguration.Kind.allCases)
  func `what was written is read to the same bits`(kind: NetworkConfiguration.Kind) throws {
    let configuration = NetworkConfiguration(kind, width: 6, exchanges: 2)
    let network = try configuration.make(for: shape(), seed: 1)
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("c.safetensors")
      try ControllerFile(
        network,
        facts: .init(network: configuration, shape: shape(), environment: "here", steps: 1)
      ).write(to: url)
      let read = try ControllerFile(contentsOf: url).network
      for (own, other) in zip(network.parameters, read.parameters) {
        #expect(own.name == other.name && own.tensor.scalars == other.tensor.scalars)
      }
    }
  }

  @Test func `a small file that claims a large network is refused at once`() throws {
    let facts = ControllerFile.Facts(
      network: NetworkConfiguration(width: 4096, exchanges: 16), shape: try shape(),
      environment: "here", steps: 1)
    let text = String(decoding: try JSONEncoder().encode(facts), as: UTF8.self)
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("c.safetensors")
      try SafeTensors.write(
        [
          "encoder.weight": Tensor(zeros: [4096, 1]),
          "policy.weight": Tensor(zeros: [facts.shape.branches.width, 1]),
        ], to: url, metadata: ["fedpeat.controller": text])
      let start = ContinuousClock.now
      expectError(.badData, "'encoder.bias' is missing") {
        _ = try ControllerFile(contentsOf: url)
      }
      #expect(ContinuousClock.now - start < .seconds(2))
    }
  }

  @Test func `making a large network can be interrupted`() throws {
    let large = NetworkConfiguration(width: 4096, exchanges: 16)
    var questions = 0
    expectError(.interrupted, "while the network was made") {
      _ = try large.make(for: shape(), seed: 0) {
        questions += 1
        return questions > 20
      }
    }
  }

  @Test func `nothing is measured in the cells that were trained in`() {
    var configuration = ControllerTrainingConfiguration()
    configuration.cloning = nil
    #expect(configuration.evaluationSeed == 123)
    configuration.seed = 122
    #expect(configuration.evaluationSeed == 123)
    configuration.cloning = CloningSettings()
    #expect(configuration.evaluationSeed != 123)
    configuration.cloning = nil
    // From its first iteration on, and from one on that comes later.
    for seed: UInt64 in [123, 123 &- 20 * 0x9E37_79B9] {
      configuration.seed = seed
      #expect(configuration.evaluationSeed != 123)
      #expect(configuration.evaluationSeed != seed)
    }
  }

  @Test func `a learning curve knows its own files from others`() {
    let curve = LearningCurve([])
    #expect(LearningCurve.isTable(curve.csv) && LearningCurve.isPicture(curve.svg))
    #expect(!LearningCurve.isTable("iteration,price\n1,2\n"))
    #expect(!LearningCurve.isPicture("<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>"))
  }
}
