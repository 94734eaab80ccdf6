/// What attention adds to its scores by how far a key is from a query, a learned number for each head and each of some buckets of distances.
///
/// Near distances have a bucket each, further ones share buckets that grow with the logarithm, and from a largest one on all have the last.
///
/// Source: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>, section 2.1; the buckets are those of transformers' `modeling_t5.py`.
public struct RelativePositions {
  /// `[buckets, H]`.
  package let table: Weight
  /// The distance from which on all have the last bucket.
  let longest: Int

  /// - Precondition: see `isPossible(buckets:longest:)`.
  package init(table: Weight, longest: Int) {
    self.table = table
    self.longest = longest
  }

  /// Whether distances can be divided so, for queries that see both ways and for those that look back.
  public static func isPossible(buckets: Int, longest: Int) -> Bool {
    buckets >= 4 && buckets % 2 == 0 && longest > buckets / 2
  }

  /// The bucket of a key.
  ///
  /// - Parameters:
  ///   - distance: the key's position less the query's.
  ///   - looksBack: whether no query sees a key behind it; such keys have the first bucket.
  public static func bucket(
    of distance: Int, buckets: Int, longest: Int, looksBack: Bool
  ) -> Int {
    let count = looksBack ? buckets : buckets / 2
    let far = looksBack ? max(0, -distance) : abs(distance)
    let first = !looksBack && distance > 0 ? count : 0
    let exact = count / 2
    if far < exact { return first + far }
    // In float32, as transformers computes it, so that borders lie in the same places.
    let steps =
      Float(naturalLogarithm(Double(Float(far) / Float(exact))))
      / Float(naturalLogarithm(Double(longest) / Double(exact))) * Float(count - exact)
    return first + min(exact + Int(steps), count - 1)
  }

  /// The bucket at each place of a kernel's line.
  func buckets(_ kernel: AttentionKernel) -> [Int] {
    (0..<kernel.lineLength).map { place in
      Self.bucket(
        of: kernel.keyCount - 1 - place, buckets: table.shape[0], longest: longest,
        looksBack: kernel.pattern.isCausal)
    }
  }

  /// For each head what a kernel adds to its scores before they are scaled, by the query's position less the key's, the smallest first.
  func lines(_ kernel: AttentionKernel, _ buckets: [Int]) -> Buffer {
    let heads = table.shape[1]
    let lines = kernel.pool.take(heads * buckets.count)
    for head in 0..<heads {
      let line = lines.pointer + head * buckets.count
      for (place, bucket) in buckets.enumerated() {
        line[place] = table.pointer[bucket * heads + head] / kernel.scale
      }
    }
    return lines
  }

  /// Adds to a table's gradient, `[buckets, H]`, what came for each place of each head's line.
  func addGradient(
    _ gradient: FloatPointer, _ kernel: AttentionKernel, _ buckets: [Int], to target: FloatPointer
  ) {
    let heads = table.shape[1]
    for head in 0..<heads {
      let line = gradient + head * buckets.count
      for (place, bucket) in buckets.enumerated() {
        target[bucket * heads + head] += line[place] / kernel.scale
      }
    }
  }
}
