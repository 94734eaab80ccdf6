import PeatTensor

/// How an update's tensors are written: as they are, or in fewer bytes.
///
/// In words: `f32`, the adapter's values; `f16`, `bf16`, `int8` and `int4`, the differences from the broadcast adapter in 16, 8 and 4 bits each;
/// `top-k=S` before one of them, only the share S of the differences that are largest, and where they are: `top-k=0.1,int8`.
/// Integers share a scale among 64 neighbours and are rounded up or down by chance, so that their mean is right (Alistarh et al. 2017, *QSGD*,
/// <https://arxiv.org/abs/1610.02132>). What rounding and choosing keep back a client adds to its next update: see `UnsentRest`.
///
/// With a rank only the first components of low-rank pairs are sent, rows of A and columns of B (names in `.lora_A.weight` and
/// `.lora_B.weight`, as PEFT has them); the others are as they were broadcast.
public struct UpdateEncoding: Sendable, Hashable, CustomStringConvertible {
  /// What a value, or a difference, is written as.
  public let number: WeightStorage
  /// The share of the differences that is sent; `nil`: all.
  public let share: Double?
  /// Components that are sent; `nil`: all.
  public let rank: Int?

  /// All values as they are.
  public static let plain = UpdateEncoding(number: .float32, share: nil, rank: nil)

  private init(number: WeightStorage, share: Double?, rank: Int?) {
    self.number = number
    self.share = share
    self.rank = rank
  }

  /// - Parameters:
  ///   - rank: components that are sent; `nil`: all.
  ///   - bits: 32, 16, 8 or 4, for `f32`, `f16`, `int8` and `int4`; `nil`: as `word` says, `f32` without one.
  ///   - word: such as `int8` or `top-k=0.1,int4`.
  /// - Throws: `badData` where these can't be.
  public init(rank: Int? = nil, bits: Int? = nil, word: String? = nil) throws {
    if let rank, rank < 1 {
      throw PeatError.badData("trainedRank is \(rank); it must be at least 1.")
    }
    guard bits == nil || word == nil else {
      throw PeatError.badData(
        "An update can't be written as '\(word ?? "")' and in \(bits ?? 0) bits; say one of both.")
    }
    var number = WeightStorage.float32
    var share: Double?
    if let bits {
      guard let known = Self.numbers[bits] else {
        throw PeatError.badData("uploadBits is \(bits); it must be 32, 16, 8 or 4.")
      }
      number = known
    }
    if let word { (number, share) = try Self.parse(word) }
    self.init(number: number, share: share, rank: rank)
  }

  private static let numbers: [Int: WeightStorage] = [
    32: .float32, 16: .float16, 8: .int8, 4: .int4,
  ]
  private static let shareName = "top-k"

  private static func parse(_ word: String) throws -> (WeightStorage, Double?) {
    var number: WeightStorage?
    var share: Double?
    for part in word.split(separator: ",", omittingEmptySubsequences: false) {
      let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      if sides.count == 2, sides[0] == shareName, share == nil, number == nil {
        guard let value = Double(sides[1]), value > 0, value < 1 else {
          throw PeatError.badData(
            "'\(part.prefix(60))': the share of differences that is sent lies above 0 and below 1, as in top-k=0.1."
          )
        }
        share = value
      } else if number == nil, let known = WeightStorage(rawValue: String(part)) {
        number = known
      } else {
        let names = WeightStorage.allCases.map(\.rawValue)
        throw PeatError.badData(
          "'\(word.prefix(60))' is no way to write an update. \(suggestion(for: String(part.prefix(60)), among: names)) Where only the share S of the differences is to be sent: top-k=S before it, as in top-k=0.1,int8."
        )
      }
    }
    return (number ?? .float32, share)
  }

  /// The words that say this, without the rank.
  public var description: String {
    guard let share else { return number.rawValue }
    return "\(Self.shareName)=\(share),\(number.rawValue)"
  }

  /// How many bits a value takes, without scales and places.
  public var bits: Int {
    switch number {
    case .float32: 32
    case .float16, .bfloat16: 16
    case .int8: 8
    case .int4: 4
    }
  }

  /// The same for the first components only.
  public func limited(to rank: Int?) throws -> UpdateEncoding {
    try UpdateEncoding(rank: rank, word: description)
  }

  /// Whether tensors are written as they are.
  public var isPlain: Bool { self == .plain }

  /// Whether what is read differs from what was written.
  public var isLossy: Bool { number != .float32 || share != nil }

  /// As a task and an update's header say it: in bits where that is enough, in words else; both `nil` for `f32`.
  package var wire: (bits: Int?, word: String?) {
    if share == nil, number == .float32 { return (nil, nil) }
    if share == nil, Self.numbers[bits] == number { return (bits, nil) }
    return (nil, description)
  }
}
