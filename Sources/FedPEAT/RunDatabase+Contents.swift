import Foundation
import PeatStore

/// What the run's owner kept beside what the coordinator did.
extension RunDatabase {
  /// The run's effective configuration, with whole paths; `nil` where it never began.
  public var runConfiguration: RunConfiguration? {
    get throws {
      try note(RunKeeping.configurationNote).map {
        try KeptJSON.decode(RunConfiguration.self, from: $0, "the configuration of '\(name)'")
      }
    }
  }

  /// The same as it was written.
  public var configurationJSON: JSONValue? {
    get throws { try json(RunKeeping.configurationNote) }
  }

  /// The command that began the run.
  public var command: RunKeeping.Command? {
    get throws { try note(RunKeeping.Command.self, RunKeeping.commandNote) }
  }

  /// What a finished run came to: `results.json`.
  public var results: JSONValue? {
    get throws { try json(RunKeeping.resultsNote) }
  }

  /// Plug-in as it was measured at the end of a finished run; `nil` before, or where it was not measured.
  public var finalPlugIn: Double? {
    get throws {
      struct Results: Decodable {
        struct FiveNumbers: Decodable { var plugIn: Double? }
        var fiveNumbers: FiveNumbers
      }
      return try note(RunKeeping.resultsNote).flatMap {
        try JSONFile.decode(Results.self, from: $0, name: "\(name): results").fiveNumbers.plugIn
      }
    }
  }

  public var isFinished: Bool {
    get throws { try note(RunKeeping.doneNote) != nil }
  }

  private func json(_ note: String) throws -> JSONValue? {
    try self.note(note).map {
      try JSONFile.decode(JSONValue.self, from: $0, name: "\(name): \(note)")
    }
  }

  /// Writes the adapter of a round to a new folder.
  ///
  /// - Parameter round: 0: before the first; `nil`: the last.
  /// - Returns: the round, and the adapter.
  /// - Throws: `usage` where the round was not made, or its adapter is not kept; `badData` where that is damaged.
  public func exportAdapter(
    ofRound round: Int?, to folder: URL
  ) throws -> (round: Int, adapter: Adapter) {
    guard let run = try load(), let configuration = try runConfiguration else {
      throw PeatError.usage("The run '\(name)' has not begun.")
    }
    let number = round ?? run.rounds.last?.record.round ?? 0
    guard let place = run.adapter(after: number) else {
      let kept = run.roundsWithAdapter
      throw PeatError.usage(
        "The adapter of round \(number) is not kept; those of the rounds \(kept.map(String.init).joined(separator: ", ")) are."
      )
    }
    let file = blobs.url(of: place.adapter)
    guard try FolderBlobStore.digest(of: file) == place.adapter else {
      throw PeatError.badData(
        "'\(file.path)' is damaged: it is not what it was when it was written.")
    }
    let owner = try ModelOwner(configuration, evaluation: nil, pooled: nil, onEvent: { _ in })
    let split = try ModelSplit(
      bottom: configuration.bottom, top: configuration.top, of: owner.model.blocks.count)
    var adapter = try Adapter(
      new: owner.configuration.adapterMethod(tokenizer: owner.reader.optionalTokenizer),
      for: owner.model, blocks: split.ends, seed: configuration.seed, sourceDigest: owner.digest)
    let state = try SafeTensorsFile(contentsOf: file).tensors().copied()
    guard state.canFollow(adapter.state) else {
      throw PeatError.badData(
        "The adapter of round \(number) does not fit '\(configuration.model)': the model there is another now."
      )
    }
    adapter.state = state
    adapter = try adapter.mergingRemainders()
    try AdapterFolder.write(
      adapter, facts: owner.adapterFacts(split), configuration: owner.model.configuration,
      baseModel: owner.checkpoint.folder.standardizedFileURL.path, to: folder,
      otherFiles: ["run.yaml": try ConfigurationReader.yaml(configuration)])
    return (number, adapter)
  }
}

extension ModelOwner {
  /// What an adapter's folder says of the model that it is for.
  func adapterFacts(_ split: ModelSplit) -> AdapterFolder.Facts {
    let numbers = Dictionary(
      uniqueKeysWithValues: (0..<split.blockCount).map { (String($0), $0) })
    // Whole, so that the result can be used from anywhere.
    let path = checkpoint.folder.standardizedFileURL.path
    return AdapterFolder.Facts(
      method: configuration.method, sourceDigest: digest, modelDigest: digest,
      split: .init(bottom: split.bottom, emulator: split.middle.count, top: split.top),
      blockMap: numbers, model: .init(path: path, digest: digest))
  }
}

extension RunResult {
  /// The round after which plug-in was best, of those that were measured; `nil` where nothing was.
  public static func best(of rounds: [RoundRecord], _ metric: Metric) -> BestRound? {
    FedPEAT.BestRound.best(of: rounds, metric)
  }
}
