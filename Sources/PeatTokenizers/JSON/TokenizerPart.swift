import Foundation
import PeatTensor

/// A place in a tokenizer file with its path, so that every error can name it: `tokenizer.json: model.merges[3]`.
struct TokenizerPart: Sendable {
  let value: ByteJSON
  let file: String
  let path: String

  /// The whole of a file.
  ///
  /// - Throws: `badData` that names the file, the line and what was expected.
  init(_ data: Data, file: String) throws {
    if data.isEmpty { throw PeatError.badData("\(file): the file is empty; expected JSON.") }
    let bytes = Array(data)
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw PeatError.badData("\(file) is not UTF-8 text, as JSON is.")
    }
    var parser = JSONParser(bytes[...], leniency: .none)
    do { self.init(value: try parser.parseWhole(), file: file, path: "") } catch {
      throw PeatError.badData(
        "\(file): line \(error.line) is not valid JSON: \(error.reason)."
          + (error.isAtEnd ? " The file may be truncated." : ""))
    }
  }

  init(value: ByteJSON, file: String, path: String) {
    self.value = value
    self.file = file
    self.path = path
  }

  /// An error about this place.
  func failure(_ message: String) -> PeatError {
    .badData("\(file): \(path.isEmpty ? "the file" : "'\(path)'") \(message)")
  }

  private func wrongKind(_ expected: String) -> PeatError {
    failure("is \(value.kind), expected \(expected).")
  }

  private func child(_ key: String, _ value: ByteJSON) -> TokenizerPart {
    TokenizerPart(value: value, file: file, path: path.isEmpty ? key : "\(path).\(key)")
  }

  var isNull: Bool { if case .null = value { true } else { false } }

  // MARK: This value

  func entries() throws -> [(key: ByteString, part: TokenizerPart)] {
    guard case .object(let entries) = value else { throw wrongKind("an object") }
    return entries.map { ($0.key, child($0.key.text, $0.value)) }
  }

  /// The entries of a large object, without a path for each.
  func rawEntries() throws -> [(key: ByteString, value: ByteJSON)] {
    guard case .object(let entries) = value else { throw wrongKind("an object") }
    return entries
  }

  /// The elements of a large list, without a path for each.
  func rawElements() throws -> [ByteJSON] {
    guard case .array(let elements) = value else { throw wrongKind("an array") }
    return elements
  }

  func elements() throws -> [TokenizerPart] {
    try rawElements().enumerated().map { index, element in
      TokenizerPart(value: element, file: file, path: "\(path)[\(index)]")
    }
  }

  func string() throws -> ByteString {
    guard case .string(let text) = value else { throw wrongKind("a string") }
    return text
  }

  func bool() throws -> Bool {
    guard case .bool(let bool) = value else { throw wrongKind("true or false") }
    return bool
  }

  func integer(in range: ClosedRange<Int>) throws -> Int {
    guard let integer = value.integer else { throw wrongKind("an integer") }
    guard range.contains(integer) else {
      throw failure("is \(integer), expected \(range.lowerBound) to \(range.upperBound).")
    }
    return integer
  }

  // MARK: Its fields

  /// The field of that name; `nil` where it is missing or null.
  func optional(_ key: String) throws -> TokenizerPart? {
    guard case .object(let entries) = value else { throw wrongKind("an object") }
    let wanted = ByteString(key)
    for entry in entries where entry.key == wanted {
      if case .null = entry.value { return nil }
      return child(key, entry.value)
    }
    return nil
  }

  func required(_ key: String) throws -> TokenizerPart {
    guard let part = try optional(key) else { throw failure("has no '\(key)'.") }
    return part
  }

  func bool(_ key: String, default value: Bool) throws -> Bool {
    try optional(key)?.bool() ?? value
  }
  func string(_ key: String) throws -> ByteString { try required(key).string() }

  /// A string of exactly one scalar.
  func scalar(_ key: String, default value: Unicode.Scalar) throws -> Unicode.Scalar {
    guard let part = try optional(key) else { return value }
    let scalars = try part.string().text.unicodeScalars
    guard let first = scalars.first, scalars.count == 1 else {
      throw part.failure("has \(scalars.count) characters, expected one.")
    }
    return first
  }

  /// A field that is one of a few words; `nil` where it is missing or null.
  func choice<Value: RawRepresentable<String>>(_ key: String, of values: [Value]) throws -> Value? {
    guard let part = try optional(key) else { return nil }
    let name = try part.string().text
    guard let value = values.first(where: { $0.rawValue == name }) else {
      throw part.unsupported(name, key, supported: values.map(\.rawValue))
    }
    return value
  }

  /// The part's "type"; `table` is what this reader knows.
  func type<Value>(in table: [(name: String, value: Value)], of what: String) throws -> Value {
    let found = try string("type").text
    for entry in table where entry.name == found { return entry.value }
    throw unsupported(found, what, supported: table.map(\.name))
  }

  func unsupported(_ found: String, _ what: String, supported: [String]) -> PeatError {
    failure(
      "is the \(what) '\(found)', which is not supported. Supported: \(supported.joined(separator: ", "))."
    )
  }
}
