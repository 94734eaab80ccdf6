import PeatTensor

/// A word that keeps a share of what a matrix or layer has: `low-rank=0.5`. Of n it keeps ⌈share · n⌉.
protocol ShareWord: Compression {
  /// What it keeps a share of, for errors: "singular values".
  static var kept: String { get }
  /// What a recipe does once at most.
  static var mark: WritableKeyPath<CompressionOutline, Bool> { get }

  /// What words before it must not have done, with the reason; nothing for most.
  static var exclusions: [(isDone: KeyPath<CompressionOutline, Bool>, reason: String)] { get }

  /// Above 0, at most 1.
  var share: Double { get }

  init(share: Double)
}

extension ShareWord {
  static var exclusions: [(isDone: KeyPath<CompressionOutline, Bool>, reason: String)] { [] }

  public init(value: String?) throws {
    guard let value, let share = Double(value), share > 0, share <= 1 else {
      throw PeatError.usage(
        "\(Self.name) needs the share of \(Self.kept) to keep, above 0 and at most 1, as there are no more: \(Self.name)=0.5; found '\(Self.name)\(value.map { "=\($0)" } ?? "")'."
      )
    }
    self.init(share: share)
  }

  public func check(_ outline: inout CompressionOutline) throws {
    if outline[keyPath: Self.mark] {
      throw PeatError.usage("A recipe chooses \(Self.kept) twice; name one of the words.")
    }
    for exclusion in Self.exclusions where outline[keyPath: exclusion.isDone] {
      throw PeatError.usage("\(Self.name) \(exclusion.reason).")
    }
    outline[keyPath: Self.mark] = true
  }

  func count(of all: Int) -> Int { ceiling(share, of: all) }

  /// The places of the largest scores, rising; of equal ones the first.
  func largest(_ scores: [Double]) -> [Int] { largest(count(of: scores.count), of: scores) }

  /// The places of so many of the largest.
  func largest(_ count: Int, of scores: [Double]) -> [Int] {
    scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(count).sorted()
  }
}

/// ⌈share · n⌉, as in exact arithmetic of the share's decimal digits: a double is off by half a unit in its last place, 0.07 · 100 computes 7.0000000000000009,
/// and what is nearer to a whole number than both roundings can be off is that number.
package func ceiling(_ share: Double, of all: Int) -> Int {
  let product = share * Double(all)
  let whole = product.rounded()
  return Int(abs(product - whole) <= 2 * whole.ulp ? whole : product.rounded(.up))
}
