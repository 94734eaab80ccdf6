extension Distillation {
  /// The owner's text as a distillation reads it: one stream.
  ///
  /// - Throws: `badData` where it is too short to learn from.
  public static func data(
    _ documents: [Document], source: Checkpoint, settings: DistillationSettings
  ) throws -> TokenDataset {
    try TokenDataset.make(
      documents, reader: try InputReader(folder: source.folder, for: source.configuration),
      for: source.configuration,
      layout: .stream,
      context: settings.context, addBegin: nil, seed: settings.seed)
  }

  /// A distillation on a text, with a probe on another, or on this one where there is none.
  ///
  /// - Parameters:
  ///   - source: the full model's folder.
  ///   - probed: a text that probes are tuned and measured on; without a probe where it has fewer than four windows.
  public convenience init(
    _ emulator: Emulator, full: TransformerModel, source: Checkpoint, data: TokenDataset,
    probed: TokenDataset?, settings: DistillationSettings
  ) throws {
    let probed = probed ?? data
    try self.init(
      emulator, full: full, data: data, settings: settings,
      probe: probed.windowCount < 4
        ? nil : try PlugInProbe(probed, seed: settings.seed, threads: settings.threads),
      sourceDigest: source.digest())
  }
}
