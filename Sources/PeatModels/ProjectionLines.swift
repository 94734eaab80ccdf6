/// Where each head's values lie among the outputs of the layers that make queries, keys and values.
public struct ProjectionLines: Sendable {
  public enum Part: CaseIterable, Sendable { case query, key, value }

  private let projections: TransformerKeys.Projections
  private let heads: Int
  private let keyValueHeads: Int
  private let headWidth: Int

  public init(
    _ projections: TransformerKeys.Projections, heads: Int, keyValueHeads: Int, headWidth: Int
  ) {
    self.projections = projections
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headWidth = headWidth
  }

  /// The layer that makes a part.
  public func path(of part: Part) -> String {
    switch projections {
    case .fused(let path), .fusedByHead(let path), .tokens(let path): path
    case .separate(let query, let key, let value):
      switch part {
      case .query: query
      case .key: key
      case .value: value
      }
    }
  }

  /// A head's lines in that layer.
  public func lines(of part: Part, head: Int) -> Range<Int> {
    let place =
      switch (projections, part) {
      case (.separate, _), (.fused, .query), (.tokens, _): head
      case (.fused, .key): heads + head
      case (.fused, .value): heads + keyValueHeads + head
      case (.fusedByHead, .query): 3 * head
      case (.fusedByHead, .key): 3 * head + 1
      case (.fusedByHead, .value): 3 * head + 2
      }
    return place * headWidth..<(place + 1) * headWidth
  }

  /// How many heads a part has.
  public func heads(of part: Part) -> Int { part == .query ? heads : keyValueHeads }
}

extension TransformerConfiguration {
  /// Of a block with so many heads.
  public func projectionLines(_ sizes: BlockSizes) -> ProjectionLines {
    ProjectionLines(
      keys.projections, heads: sizes.heads, keyValueHeads: sizes.keyValueHeads,
      headWidth: headWidth)
  }
}
