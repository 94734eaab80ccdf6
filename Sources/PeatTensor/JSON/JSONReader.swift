import Foundation

/// Decodes values from JSON that was parsed here, so that every error names its key: `JSONDecoder` calls a number that does not fit "not valid JSON".
struct JSONReader: Decoder {
  private let value: ByteJSON
  let codingPath: [any CodingKey]
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  init(_ value: ByteJSON, at path: [any CodingKey] = []) {
    self.value = value
    codingPath = path
  }

  /// Throws `DecodingError`, or what a type throws itself.
  static func read<Value: Decodable>(_ type: Value.Type, from value: ByteJSON) throws -> Value {
    try JSONReader(value).read(type)
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    guard case .object(let members) = value else { throw mismatch([String: ByteJSON].self) }
    return KeyedDecodingContainer(
      Table<Key>(
        codingPath: codingPath,
        values: Dictionary(
          members.map { ($0.key.text, $0.value) }, uniquingKeysWith: { $1 })))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    guard case .array(let values) = value else { throw mismatch([ByteJSON].self) }
    return List(codingPath: codingPath, values: values)
  }

  func singleValueContainer() -> any SingleValueDecodingContainer { self }

  // MARK: One value

  fileprivate func read<Value: Decodable>(_ type: Value.Type) throws -> Value {
    switch type {
    case is Data.Type:
      guard let data = Data(base64Encoded: try decode(String.self)) as? Value else {
        throw corrupted("expected bytes in base64")
      }
      return data
    case is URL.Type:
      guard let url = URL(string: try decode(String.self)) as? Value else {
        throw corrupted("expected an address")
      }
      return url
    default: return try Value(from: self)
    }
  }

  fileprivate func mismatch(_ type: Any.Type) -> DecodingError {
    if case .null = value {
      return .valueNotFound(type, .init(codingPath: codingPath, debugDescription: "null"))
    }
    return .typeMismatch(type, .init(codingPath: codingPath, debugDescription: value.kind))
  }

  private func corrupted(_ reason: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: codingPath, debugDescription: reason))
  }

  fileprivate func whole<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
    guard case .number(let text) = value else { throw mismatch(type) }
    // 8.0 and 8e0 are whole, too.
    if let number = Number(text) ?? Double(text).flatMap({ Number(exactly: $0) }) { return number }
    throw corrupted(
      "expected a whole number\(Double(text).map { $0 == $0.rounded() } == true ? " that fits" : ""), found \(text.prefix(40))"
    )
  }

  fileprivate func real<Number: BinaryFloatingPoint & LosslessStringConvertible>(
    _ type: Number.Type
  ) throws -> Number {
    guard case .number(let text) = value else { throw mismatch(type) }
    guard let number = Number(text), number.isFinite else {
      throw corrupted("expected a number that fits, found \(text.prefix(40))")
    }
    return number
  }
}

extension JSONReader: SingleValueDecodingContainer {
  func decodeNil() -> Bool { if case .null = value { true } else { false } }

  func decode(_ type: Bool.Type) throws -> Bool {
    guard case .bool(let flag) = value else { throw mismatch(type) }
    return flag
  }

  func decode(_ type: String.Type) throws -> String {
    guard case .string(let text) = value else { throw mismatch(type) }
    return text.text
  }

  func decode(_ type: Double.Type) throws -> Double { try real(type) }
  func decode(_ type: Float.Type) throws -> Float { try real(type) }
  func decode(_ type: Int.Type) throws -> Int { try whole(type) }
  func decode(_ type: Int8.Type) throws -> Int8 { try whole(type) }
  func decode(_ type: Int16.Type) throws -> Int16 { try whole(type) }
  func decode(_ type: Int32.Type) throws -> Int32 { try whole(type) }
  func decode(_ type: Int64.Type) throws -> Int64 { try whole(type) }
  func decode(_ type: UInt.Type) throws -> UInt { try whole(type) }
  func decode(_ type: UInt8.Type) throws -> UInt8 { try whole(type) }
  func decode(_ type: UInt16.Type) throws -> UInt16 { try whole(type) }
  func decode(_ type: UInt32.Type) throws -> UInt32 { try whole(type) }
  func decode(_ type: UInt64.Type) throws -> UInt64 { try whole(type) }
  func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try read(type) }
}

/// The members of an object; of equal keys the last counts.
private struct Table<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let codingPath: [any CodingKey]
  let values: [String: ByteJSON]

  var allKeys: [Key] { values.keys.compactMap(Key.init(stringValue:)) }

  func contains(_ key: Key) -> Bool { values[key.stringValue] != nil }

  private func reader(_ key: any CodingKey) throws -> JSONReader {
    guard let value = values[key.stringValue] else {
      throw DecodingError.keyNotFound(
        key, .init(codingPath: codingPath, debugDescription: "missing"))
    }
    return JSONReader(value, at: codingPath + [key])
  }

  func decodeNil(forKey key: Key) throws -> Bool { try reader(key).decodeNil() }
  func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try reader(key).decode(type) }
  func decode(_ type: String.Type, forKey key: Key) throws -> String {
    try reader(key).decode(type)
  }
  func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try reader(key).real(type) }
  func decode(_ type: Float.Type, forKey key: Key) throws -> Float { try reader(key).real(type) }
  func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try reader(key).whole(type) }
  func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try reader(key).whole(type) }
  func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try reader(key).whole(type) }
  func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try reader(key).whole(type) }
  func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try reader(key).whole(type) }
  func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try reader(key).whole(type) }
  func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try reader(key).whole(type) }
  func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 {
    try reader(key).whole(type)
  }
  func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 {
    try reader(key).whole(type)
  }
  func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 {
    try reader(key).whole(type)
  }
  func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
    try reader(key).read(type)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy type: Nested.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<Nested> { try reader(key).container(keyedBy: type) }
  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try reader(key).unkeyedContainer()
  }
  func superDecoder() throws -> any Decoder { try reader(Place(stringValue: "super")) }
  func superDecoder(forKey key: Key) throws -> any Decoder { try reader(key) }
}

/// The values of an array, one after the other.
private struct List: UnkeyedDecodingContainer {
  let codingPath: [any CodingKey]
  let values: [ByteJSON]
  private(set) var currentIndex = 0

  init(codingPath: [any CodingKey], values: [ByteJSON]) {
    self.codingPath = codingPath
    self.values = values
  }

  var count: Int? { values.count }
  var isAtEnd: Bool { currentIndex >= values.count }

  private mutating func next<Value>(_ read: (JSONReader) throws -> Value) throws -> Value {
    let place = Place(intValue: currentIndex)
    guard !isAtEnd else {
      throw DecodingError.valueNotFound(
        Value.self, .init(codingPath: codingPath + [place], debugDescription: "the end"))
    }
    let value = try read(JSONReader(values[currentIndex], at: codingPath + [place]))
    currentIndex += 1
    return value
  }

  mutating func decodeNil() -> Bool {
    guard !isAtEnd, case .null = values[currentIndex] else { return false }
    currentIndex += 1
    return true
  }
  mutating func decode(_ type: Bool.Type) throws -> Bool { try next { try $0.decode(type) } }
  mutating func decode(_ type: String.Type) throws -> String { try next { try $0.decode(type) } }
  mutating func decode(_ type: Double.Type) throws -> Double { try next { try $0.real(type) } }
  mutating func decode(_ type: Float.Type) throws -> Float { try next { try $0.real(type) } }
  mutating func decode(_ type: Int.Type) throws -> Int { try next { try $0.whole(type) } }
  mutating func decode(_ type: Int8.Type) throws -> Int8 { try next { try $0.whole(type) } }
  mutating func decode(_ type: Int16.Type) throws -> Int16 { try next { try $0.whole(type) } }
  mutating func decode(_ type: Int32.Type) throws -> Int32 { try next { try $0.whole(type) } }
  mutating func decode(_ type: Int64.Type) throws -> Int64 { try next { try $0.whole(type) } }
  mutating func decode(_ type: UInt.Type) throws -> UInt { try next { try $0.whole(type) } }
  mutating func decode(_ type: UInt8.Type) throws -> UInt8 { try next { try $0.whole(type) } }
  mutating func decode(_ type: UInt16.Type) throws -> UInt16 { try next { try $0.whole(type) } }
  mutating func decode(_ type: UInt32.Type) throws -> UInt32 { try next { try $0.whole(type) } }
  mutating func decode(_ type: UInt64.Type) throws -> UInt64 { try next { try $0.whole(type) } }
  mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
    try next { try $0.read(type) }
  }
  mutating func nestedContainer<Nested: CodingKey>(
    keyedBy type: Nested.Type
  ) throws -> KeyedDecodingContainer<Nested> { try next { try $0.container(keyedBy: type) } }
  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try next { try $0.unkeyedContainer() }
  }
  mutating func superDecoder() throws -> any Decoder { try next { $0 } }
}

/// A place in an array, or a key that no type declares.
private struct Place: CodingKey {
  let stringValue: String
  let intValue: Int?

  init(stringValue: String) {
    self.stringValue = stringValue
    intValue = nil
  }

  init(intValue: Int) {
    stringValue = "\(intValue)"
    self.intValue = intValue
  }
}
