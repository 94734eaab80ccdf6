import FedPEAT
import Foundation

/// The adapter that is tuned: where it starts, where it sits, and what is written with it.
extension Tune {
  /// The adapter that tuning starts from: new, or another one's values.
  func startingAdapter(_ loaded: LoadedModel) throws -> Adapter {
    if let from {
      let (adapter, facts) = try AdapterFolder.read(URL(adapter: from), for: loaded.model)
      if let method, method != adapter.method.name {
        throw PeatError.usage(
          "--method \(method) does not fit '\(from)', whose method is \(adapter.method.name). Leave it out."
        )
      }
      try LoadedModel.check(URL(adapter: from), facts, fits: loaded.checkpoint, loaded.emulator)
      try checkOptions(fit: adapter, from)
      try checkBlocks(of: adapter, facts, loaded, from)
      var method = adapter.method
      if case .lora(var lora) = method, let dropout {
        lora = try lora.dropping(dropout)
        method = .lora(lora)
      }
      return Adapter(
        method: method, state: adapter.state, sourceDigest: loaded.sourceDigest)
    }
    return try Adapter(
      new: try newMethod(tokenizer: loaded.reader.optionalTokenizer), for: loaded.model,
      blocks: try blocks(of: loaded),
      seed: common.seedValue,
      sourceDigest: loaded.sourceDigest)
  }

  /// Throws where an adapter sits in blocks that are not to be tuned.
  private func checkBlocks(
    of adapter: Adapter, _ facts: AdapterFolder.Facts?, _ loaded: LoadedModel, _ from: String
  ) throws {
    let blocks = Set(try blocks(of: loaded))
    let own = AdapterFolder.blockNumbers(
      of: adapter.state, loaded.model.configuration.keys.inFullModel)
    if let stranger = own.subtracting(blocks).min() {
      throw PeatError.badData(
        "'\(from)' is an adapter in block \(stranger) of the full model, too, which is not to be tuned: "
          + (loaded.emulator == nil
            ? "by --bottom and --top those are" : "an emulator's own blocks, its ends, are")
          + " \(blocks.sorted().map(String.init).joined(separator: ", ")). "
          + (loaded.emulator == nil
            ? "Leave --bottom and --top out, or begin with an adapter of these blocks."
            : "Begin with an adapter of these blocks, in PEFT by layers_to_transform."))
    }
    let moved = loaded.model.blocks.enumerated().filter { number, block in
      number != block.numberInFullModel && own.contains(block.numberInFullModel)
    }
    if facts == nil, let (number, block) = moved.first {
      Terminal.caution(
        "'\(from)' does not say of which model its block numbers are (it has no fedpeat.json); they are taken for this emulator's, whose block \(number) is block \(block.numberInFullModel) of the full model. An adapter of the full model itself would be wrong here"
      )
    }
  }

  /// The update's two files, if one was asked for.
  func updateFiles(
    _ tuned: Adapter, from base: Adapter, classes: [String]?, _ exampleCount: Int,
    _ outcome: Trainer.Outcome
  ) throws -> [String: Data] {
    guard update else { return [:] }
    var header = UpdateHeader(
      client: try ClientID(client), exampleCount: exampleCount, baseDigest: base.state.digest)
    header.describe(tuned, classes: classes)
    header.metrics = ["loss": outcome.finalLoss]
    header.telemetry.computeSeconds = outcome.seconds
    header.telemetry.peakMemoryBytes = ProcessMeasurement.peakMemoryBytes
    header.telemetry.tokens = outcome.tokens
    return [
      ClientUpdate.headerFile: try header.json(),
      ClientUpdate.tensorsFile: SafeTensors.encode(tuned.state),
    ]
  }

  func blocks(of loaded: LoadedModel) throws -> [Int] {
    guard bottom != nil || top != nil else { return loaded.adapterBlocks }
    guard loaded.emulator == nil else {
      throw PeatError.usage(
        "An emulator says itself which blocks are its ends; leave out --bottom and --top.")
    }
    return try ModelSplit(bottom: bottom ?? 0, top: top ?? 0, of: loaded.model.blocks.count).ends
  }

  func facts(
    _ loaded: LoadedModel, _ method: Adapter.Method
  ) -> AdapterFolder.Facts {
    let count = loaded.model.blocks.count
    var split = loaded.emulator?.split
    if split == nil, bottom != nil || top != nil {
      split = .init(
        bottom: bottom ?? 0, emulator: count - (bottom ?? 0) - (top ?? 0), top: top ?? 0)
    }
    return AdapterFolder.Facts(
      method: method.name, sourceDigest: loaded.sourceDigest,
      modelDigest: loaded.checkpoint.digest(),
      split: split,
      blockMap: Dictionary(
        uniqueKeysWithValues: loaded.model.blocks.enumerated().map {
          (String($0), $1.numberInFullModel)
        }))
  }
}
