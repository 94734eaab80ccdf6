/// One of some words in a configuration: another one is refused, with those that there are.
public protocol ConfigurationWord: RawRepresentable, Codable, CaseIterable, Sendable
where RawValue == String {}

extension ConfigurationWord {
  public init(from decoder: any Decoder) throws {
    let word = try decoder.singleValueContainer().decode(String.self)
    guard let value = Self(rawValue: word) else {
      let words = Self.allCases.map(\.rawValue).joined(separator: ", ")
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "expected one of \(words), found '\(word.prefix(40))'"))
    }
    self = value
  }
}
