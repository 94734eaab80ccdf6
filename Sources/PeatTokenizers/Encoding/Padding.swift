import PeatTensor

/// How encodings are brought to one length. Mirrors tokenizers 0.23 `utils/padding.rs`.
public struct Padding: Equatable, Sendable {
  public enum Length: Equatable, Sendable {
    /// That of the longest in the batch.
    case batchLongest
    /// So many tokens; longer encodings stay as they are.
    case fixed(Int)
  }
  /// At which end padding is put.
  public enum Direction: String, CaseIterable, Sendable {
    case left = "Left"
    case right = "Right"
  }

  public var length: Length
  public var direction: Direction
  /// The length is rounded up to a multiple of this.
  public var multiple: Int?
  public var number: Int32
  public var typeNumber: Int32
  public var token: String

  public init(
    length: Length = .batchLongest, direction: Direction = .right, multiple: Int? = nil,
    number: Int32 = 0, typeNumber: Int32 = 0, token: String = "[PAD]"
  ) {
    self.length = length
    self.direction = direction
    self.multiple = multiple
    self.number = number
    self.typeNumber = typeNumber
    self.token = token
  }

  /// The most tokens that a file may ask to pad to: what one text would take is bounded.
  private static let limit = 1 << 20

  /// Reads "padding" of tokenizer.json.
  init(_ part: TokenizerPart) throws {
    let strategy = try part.required("strategy")
    if case .object = strategy.value {
      length = .fixed(try strategy.required("Fixed").integer(in: 0...Self.limit))
    } else {
      let name = try strategy.string().text
      guard name == "BatchLongest" else {
        throw strategy.unsupported(
          name, "padding strategy", supported: ["BatchLongest", "{\"Fixed\": length}"])
      }
      length = .batchLongest
    }
    direction = try part.choice("direction", of: Direction.allCases) ?? .right
    multiple = try part.optional("pad_to_multiple_of")?.integer(in: 0...Self.limit)
    let numbers = 0...Vocabulary.numberLimit - 1
    number = Int32(try part.optional("pad_id")?.integer(in: numbers) ?? 0)
    typeNumber = Int32(try part.optional("pad_type_id")?.integer(in: numbers) ?? 0)
    token = try part.optional("pad_token")?.string().text ?? "[PAD]"
  }

  /// Pads a batch, and what overflowed of it.
  func apply(to encodings: inout [TokenEncoding]) {
    var target =
      switch length {
      case .fixed(let count): count
      case .batchLongest: encodings.map(\.count).max() ?? 0
      }
    if let multiple, multiple > 0 { target = (target + multiple - 1) / multiple * multiple }
    for index in encodings.indices { pad(&encodings[index], to: target) }
  }

  private func pad(_ encoding: inout TokenEncoding, to target: Int) {
    for index in encoding.overflowing.indices { pad(&encoding.overflowing[index], to: target) }
    let missing = target - encoding.count
    if missing <= 0 { return }
    func fill(_ values: inout [Int32], _ value: Int32) {
      values.insert(
        contentsOf: repeatElement(value, count: missing),
        at: direction == .left ? 0 : values.count)
    }
    fill(&encoding.numbers, number)
    fill(&encoding.typeNumbers, typeNumber)
    fill(&encoding.attentionMask, 0)
    fill(&encoding.specialTokensMask, 1)
  }
}
