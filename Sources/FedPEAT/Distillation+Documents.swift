extension Distillation {
  /// A distillation on documents, as one stream, with a probe on another text, or on this one where there is none.
  ///
  /// - Parameters:
  ///   - source: the full model's folder.
  ///   - probed: a text that probes are tuned and measured on; without a probe where it has fewer than four windows.
  public convenience init(
    _ emulator: Emulator, full: TransformerModel, source: Checkpoint, documents: [Document],
    probed: TokenDataset?, settings: DistillationSettings
  ) throws {
    let data = try TokenDataset.make(
      documents, tokenizer: try Tokenizer(folder: source.folder), layout: .stream,
      context: settings.context, addBegin: nil)
    let probed = probed ?? data
    try self.init(
      emulator, full: full, data: data, settings: settings,
      probe: probed.windowCount < 4
        ? nil : try PlugInProbe(probed, seed: settings.seed, threads: settings.threads),
      sourceDigest: source.digest())
  }
}
