/// A list of names of a run file, of which one alone may be written without brackets: `targetModules: all-linear`. Null is no list.
@propertyWrapper
public struct NameList: Sendable, Codable, Equatable {
  public var wrappedValue: [String]?

  public init(wrappedValue: [String]?) { self.wrappedValue = wrappedValue }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    wrappedValue =
      if container.decodeNil() {
        nil
      } else if let name = try? container.decode(String.self) {
        [name]
      } else {
        try container.decode([String].self)
      }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(wrappedValue)
  }
}
