import Foundation
import Yams

/// Reads YAML (or JSON) over a configuration's defaults.
public enum ConfigurationReader {
  /// - Parameters:
  ///   - defaults: the value whose keys may be named; keys that are not named keep its values.
  ///   - url: the file; `nil` reads none.
  ///   - overrides: values that win over the file's, such as flags.
  /// - Throws: `badData` for a key that does not exist, with the nearest that does, or a value of the wrong kind.
  public static func read<Configuration: Codable>(
    _ defaults: Configuration, from url: URL?, overrides: [String: JSONValue] = [:]
  ) throws -> Configuration {
    guard case .object(var table) = try JSONValue(encoding: defaults) else {
      preconditionFailure("a configuration is an object")
    }
    let known = Set(table.keys)
    if let url {
      for (key, value) in try object(in: url).sorted(by: { $0.key < $1.key }) {
        // One key at a time, so that the one that is wrong can be named.
        table = try merging([key: value], into: table, in: url.path, below: "")
        do { _ = try decode(Configuration.self, table) } catch {
          throw PeatError.badData(
            "'\(url.path)': \(key) is \(shown(value)), which does not fit\(expectation(error)).",
            cause: error)
        }
      }
    }
    for (key, value) in overrides {
      precondition(known.contains(key), "the override '\(key)' is no key")
      if case .number(let number) = value, !number.isFinite {
        throw PeatError.usage("\(key) is \(number); it must be a finite number.")
      }
      table[key] = value
    }
    do { return try decode(Configuration.self, table) } catch {
      throw PeatError.usage("The given options do not fit\(expectation(error)).")
    }
  }

  /// A table's values over its defaults, also inside the tables that it holds.
  private static func merging(
    _ values: [String: JSONValue], into defaults: [String: JSONValue], in name: String,
    below path: String
  ) throws -> [String: JSONValue] {
    var result = defaults
    for (key, value) in values.sorted(by: { $0.key < $1.key }) {
      guard let known = defaults[key] else {
        throw PeatError.badData(
          "'\(name)' has the unknown key '\(path + key)'. "
            + suggestion(for: key, among: defaults.keys))
      }
      if case .object(let inner) = value, case .object(let own) = known, !own.isEmpty {
        result[key] = .object(try merging(inner, into: own, in: name, below: path + key + "."))
      } else if case .array(let items) = value, case .array(let own) = known {
        try checkTables(items, like: own, in: name, below: path + key)
        result[key] = value
      } else {
        result[key] = value
      }
    }
    return result
  }

  /// Throws where a table in a list has a key that none of the default list's tables has.
  private static func checkTables(
    _ items: [JSONValue], like defaults: [JSONValue], in name: String, below path: String
  ) throws {
    var known: Set<String> = []
    for case .object(let table) in defaults { known.formUnion(table.keys) }
    guard !known.isEmpty else { return }
    for (number, item) in items.enumerated() {
      guard case .object(let table) = item else { continue }
      for key in table.keys.sorted() where !known.contains(key) {
        throw PeatError.badData(
          "'\(name)' has the unknown key '\(path)[\(number)].\(key)'. \(suggestion(for: key, among: known))"
        )
      }
    }
  }

  private static func shown(_ value: JSONValue) -> String {
    let text = (try? JSONEncoder().encode(value)).map { String(decoding: $0, as: UTF8.self) }
    return String((text ?? "?").prefix(60))
  }

  /// What was expected, where the error knows it: of a number that is too large or no whole one it does not.
  private static func expectation(_ error: any Error) -> String {
    if case DecodingError.dataCorrupted(let context) = error, context.codingPath.isEmpty {
      return ""
    }
    return ": \(describe(error))"
  }

  private static func decode<Configuration: Decodable>(
    _ type: Configuration.Type, _ table: [String: JSONValue]
  ) throws -> Configuration {
    try JSONDecoder().decode(type, from: JSONEncoder().encode(JSONValue.object(table)))
  }

  /// A configuration as YAML, every key with its value; a number with as few digits as read back to the same.
  public static func yaml(_ configuration: some Encodable) throws -> Data {
    // By way of JSON, which knows which of a number's digits count.
    let root = try node(of: JSONValue(encoding: configuration))
    return Data(try Yams.serialize(node: root, sortKeys: true).utf8)
  }

  private static func node(of value: JSONValue) throws -> Node {
    switch value {
    case .null: Node("null", Tag(.null))
    case .bool(let value): try value.represented()
    case .integer(let value): try value.represented()
    case .number(let value):
      // Older readers of YAML take 1e-05 for a text.
      Node("\(value)".replacing(/^(-?\d+)e/) { "\($0.1).0e" }, Tag(.float))
    case .string(let value): try value.represented()
    case .array(let values): Node(try values.map(node), Tag(.seq))
    case .object(let table):
      Node(try table.map { (try $0.key.represented(), try node(of: $0.value)) }, Tag(.map))
    }
  }

  /// The keys that a file names at its top.
  static func keys(in url: URL) throws -> Set<String> { Set(try object(in: url).keys) }

  private static func object(in url: URL) throws -> [String: JSONValue] {
    let data = try JSONFile.bytes(of: url)
    guard let text = String(data: data, encoding: .utf8) else {
      throw PeatError.badData("'\(url.path)' is not a text in UTF-8; a run file is YAML or JSON.")
    }
    let parser: Parser
    let node: Node?
    do {
      parser = try Parser(yaml: text)
      node = try parser.singleRoot()
    } catch {
      throw PeatError.badData("'\(url.path)' is not correct YAML: \(error)", cause: error)
    }
    guard let node else { return [:] }
    // The nodes know their anchors only as long as the parser lives.
    return try withExtendedLifetime(parser) {
      guard case .object(let table) = try json(node, url.path, at: []) else {
        throw PeatError.badData("'\(url.path)' must hold keys with values, such as 'rounds: 10'.")
      }
      return table
    }
  }

  /// A YAML node as the JSON value it stands for.
  ///
  /// - Parameter path: the keys that lead to it.
  private static func json(_ node: Node, _ name: String, at path: [String]) throws -> JSONValue {
    guard path.count < 32 else { throw PeatError.badData("'\(name)' is nested too deeply.") }
    // An alias arrives as a copy of what its anchor marks, and copies of copies can be without end.
    if let anchor = node.anchor {
      throw PeatError.badData(
        "'\(name)' uses the anchor &\(anchor.rawValue); run files allow no anchors and aliases.")
    }
    switch node {
    case .mapping(let mapping):
      var table: [String: JSONValue] = [:]
      for (key, value) in mapping {
        guard let key = key.string else {
          throw PeatError.badData("'\(name)' has a key that is not a text.")
        }
        guard table[key] == nil else {
          throw PeatError.badData("'\(name)' has the key '\(key)' twice.")
        }
        table[key] = try json(value, name, at: path + [key])
      }
      return .object(table)
    case .sequence(let sequence):
      return .array(
        try sequence.enumerated().map { try json($0.element, name, at: path + ["\($0.offset)"]) })
    case .scalar(let scalar):
      if scalar.style == .singleQuoted || scalar.style == .doubleQuoted {
        return .string(scalar.string)
      }
      if let value = node.bool, ["true", "false"].contains(scalar.string.lowercased()) {
        return .bool(value)
      }
      if let value = node.int { return .integer(value) }
      if let value = node.float {
        guard value.isFinite else {
          throw PeatError.badData(
            "'\(name)': \(path.joined(separator: ".")) is \(scalar.string.prefix(40)); numbers must be finite."
          )
        }
        return .number(value)
      }
      if node.null != nil { return .null }
      return .string(scalar.string)
    case .alias:
      throw PeatError.badData("'\(name)' uses an alias (*name), which run files do not allow.")
    }
  }
}
