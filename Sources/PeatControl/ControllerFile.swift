import Foundation
import PeatNN
import PeatTensor

/// A learned controller in one small safetensors file: a network's weights, how it is built, and what it sees and decides.
public struct ControllerFile: Sendable {
  public static let formatVersion = 1

  /// What stands in the file's metadata beside the weights.
  public struct Facts: Sendable, Codable, Equatable {
    public var formatVersion: Int
    public var network: NetworkConfiguration
    public var shape: ControlShape
    /// The environment it was trained in, by name.
    public var environment: String
    /// Rounds it was trained on.
    public var steps: Int

    public init(
      network: NetworkConfiguration, shape: ControlShape, environment: String, steps: Int
    ) {
      formatVersion = ControllerFile.formatVersion
      self.network = network
      self.shape = shape
      self.environment = environment
      self.steps = steps
    }
  }

  public let facts: Facts
  public let network: any ActorCritic

  public init(_ network: any ActorCritic, facts: Facts) {
    self.network = network
    self.facts = facts
  }

  /// Writes the file, whole or not at all.
  public func write(to url: URL) throws {
    let tensors = Dictionary(
      uniqueKeysWithValues: network.parameters.map { ($0.name, $0.tensor.copied()) })
    try SafeTensors.write(tensors, to: url, metadata: [Self.key: try Self.encode(facts)])
  }

  /// - Throws: `inputOutput` where the file can't be read; `badData` where it is no controller, or weights are missing,
  ///   have another shape or are no numbers.
  public init(contentsOf url: URL) throws {
    let (file, text) = try Self.open(url)
    let facts: Facts
    do { facts = try JSONDecoder().decode(Facts.self, from: Data(text.utf8)) } catch {
      throw PeatError.badData(
        "The controller '\(url.path)' has facts that can't be understood (\(describe(error))).",
        cause: error)
    }
    guard facts.formatVersion == Self.formatVersion else {
      throw PeatError.badData(
        "The controller '\(url.path)' is of format \(facts.formatVersion); this program reads \(Self.formatVersion)."
      )
    }
    try facts.shape.validate(in: url.path)
    let network: any ActorCritic
    do {
      // Before a network of that size is made: the file's facts may be anything.
      try facts.network.validate()
      try Self.check(file, for: facts)
      network = try facts.network.blank(for: facts.shape)
    } catch let error as PeatError {
      throw PeatError.badData("The controller '\(url.path)': \(error.message)", cause: error)
    }
    for parameter in network.parameters {
      let tensor = try file.tensor(named: parameter.name)
      guard tensor.isFinite else {
        throw PeatError.badData(
          "The controller '\(url.path)' holds NaN or infinity in '\(parameter.name)'.")
      }
      parameter.assign(tensor)
    }
    self.facts = facts
    self.network = network
  }

  /// Throws `badData` where the file does not hold exactly the weights that its facts call for.
  private static func check(_ file: SafeTensorsFile, for facts: Facts) throws {
    let layout = facts.network.layout(for: facts.shape)
    if let unknown = file.names.first(where: { layout[$0] == nil }) {
      throw PeatError.badData(
        "It holds '\(unknown)', which a network of the kind '\(facts.network.kind.rawValue)' does not have."
      )
    }
    for (name, shape) in layout.sorted(by: { $0.key < $1.key }) {
      guard let own = file.entries[name]?.shape else {
        throw PeatError.badData("'\(name)' is missing. The file is damaged; train it again.")
      }
      guard own == shape else {
        throw PeatError.badData(
          "'\(name)' has shape \(own), its facts call for \(shape). The file is damaged; train it again."
        )
      }
    }
  }

  /// Throws `inputOutput` where a controller can't be written, or something else would be lost.
  public static func checkOutput(_ url: URL) throws {
    try AtomicOutput.checkFile(url, "controller") {
      (try? SafeTensorsFile(contentsOf: $0))?.metadata[key] != nil
    }
  }

  static let key = "fedpeat.controller"

  private static func encode(_ facts: Facts) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    return String(decoding: try encoder.encode(facts), as: UTF8.self)
  }
}

extension ControlShape {
  /// Throws `badData` where sizes from outside make no sense.
  fileprivate func validate(in name: String) throws {
    for (what, value, range) in [
      ("devices", devices, 1...100_000), ("deviceFeatures", deviceFeatures, 1...4096),
      ("globalFeatures", globalFeatures, 0...4096),
    ] where !range.contains(value) {
      throw PeatError.badData("The controller '\(name)' states \(value) \(what).")
    }
    guard logits < 10_000_000, branches.list.allSatisfy({ !$0.name.isEmpty }) else {
      throw PeatError.badData("The controller '\(name)' states \(logits) logits.")
    }
  }
}
