import PeatTensor

/// How an emulator's model differs from what its config.json says. Blocks are numbered as they are stored, from 0.
public struct ModelVariation: Sendable, Codable, Equatable {
  /// The stored blocks in the order in which they are run, some of them more than once; `nil`: each once.
  public var order: [Int]?
  /// Blocks with fewer heads or channels, by number.
  public var sizes: [String: BlockSizes]
  /// Linear layers that are kept as two factors, by name, with the rank: `model.layers.2.mlp.up_proj`.
  public var ranks: [String: Int]

  public init(
    order: [Int]? = nil, sizes: [String: BlockSizes] = [:], ranks: [String: Int] = [:]
  ) {
    self.order = order
    self.sizes = sizes
    self.ranks = ranks
  }

  /// A model as its config.json says.
  public static let none = ModelVariation()

  private enum CodingKeys: String, CodingKey { case order, sizes, ranks }

  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    order = try table.decodeIfPresent([Int].self, forKey: .order)
    sizes = try table.decodeIfPresent([String: BlockSizes].self, forKey: .sizes) ?? [:]
    ranks = try table.decodeIfPresent([String: Int].self, forKey: .ranks) ?? [:]
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encodeIfPresent(order, forKey: .order)
    if !sizes.isEmpty { try table.encode(sizes, forKey: .sizes) }
    if !ranks.isEmpty { try table.encode(ranks, forKey: .ranks) }
  }

  /// Throws `badData` where it does not fit a model.
  ///
  /// - Parameter source: what errors call the model.
  func validate(for model: TransformerConfiguration, source: String) throws {
    func refuse(_ what: String) -> PeatError {
      .badData("'\(source)': emulator.json \(what). The emulator is damaged; make it again.")
    }
    if let order {
      guard (1...4096).contains(order.count), Set(order) == Set(0..<model.blockCount) else {
        throw refuse(
          "has an order of \(order.count) blocks that must name each of the \(model.blockCount) stored ones at least once, 4096 at most"
        )
      }
      let sides = order.map { model.keys.isInDecoder($0) }
      guard !zip(sides, sides.dropFirst()).contains(where: { $0 && !$1 }) else {
        throw refuse("runs blocks of the encoder behind those of the decoder")
      }
    }
    for (number, size) in sizes {
      guard let block = Int(number), (0..<model.blockCount).contains(block) else {
        throw refuse("gives sizes for a block '\(number)', which is not stored")
      }
      guard (1...model.heads).contains(size.heads),
        (1...model.keyValueHeads).contains(size.keyValueHeads),
        size.heads % size.keyValueHeads == 0,
        (1...model.feedForwardSize).contains(size.feedForwardSize)
      else {
        throw refuse(
          "gives block \(number) \(size.heads) heads, \(size.keyValueHeads) key/value heads and \(size.feedForwardSize) channels; config.json allows at most \(model.heads), \(model.keyValueHeads) and \(model.feedForwardSize)"
        )
      }
    }
    let layers = Set(
      (0..<model.blockCount).flatMap { block in
        model.keys.ofBlock(block).linearPaths.map { "\(model.keys.block(block)).\($0)" }
      })
    for (name, rank) in ranks {
      guard layers.contains(name), rank > 0,
        rank <= max(model.hiddenSize, model.feedForwardSize, model.heads * model.headWidth)
      else {
        throw refuse("keeps '\(name)' as factors of rank \(rank), which does not fit the model")
      }
    }
  }
}

/// How wide a block is inside.
public struct BlockSizes: Sendable, Codable, Equatable {
  public var heads: Int
  public var keyValueHeads: Int
  public var feedForwardSize: Int

  public init(heads: Int, keyValueHeads: Int, feedForwardSize: Int) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.feedForwardSize = feedForwardSize
  }
}

extension TransformerConfiguration {
  /// How wide a stored block is inside.
  public func sizes(ofBlock number: Int) -> BlockSizes {
    variation.sizes[String(number)]
      ?? BlockSizes(
        heads: heads, keyValueHeads: keyValueHeads, feedForwardSize: feedForwardSize)
  }

  /// The stored blocks in the order in which they are run.
  public var order: [Int] { variation.order ?? Array(0..<blockCount) }

  /// How many blocks are run, one after the other.
  public var depth: Int { variation.order?.count ?? blockCount }
}
