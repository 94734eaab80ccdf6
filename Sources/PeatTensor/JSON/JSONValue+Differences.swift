import Foundation

extension JSONValue {
  /// What is encoded, as JSON.
  package init(encoding value: some Encodable) throws {
    self = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
  }

  /// Every value that is no object, under its path: `optimizer.beta1`. What is null is as good as not said.
  package var leaves: [String: JSONValue] {
    var result: [String: JSONValue] = [:]
    func walk(_ value: JSONValue, _ path: String) {
      if value.isNull { return }
      guard case .object(let table) = value else {
        result[path] = value
        return
      }
      for (key, value) in table { walk(value, path.isEmpty ? key : "\(path).\(key)") }
    }
    walk(self, "")
    return result
  }

  /// Where these settings differ from earlier ones, in words, each for itself: `threads was 2, here it is 1`.
  ///
  /// - Parameter said: for a path with another value than before what to say of it, the old value and the new one in words; by its path if not given.
  package func differences(
    from old: JSONValue,
    said: (_ path: String, _ was: String, _ isNow: String) -> String? = {
      "\($0) was \($1), here it is \($2)"
    }
  ) -> [String] {
    let (before, now) = (old.leaves, leaves)
    func word(_ value: JSONValue?) -> String { value.map(\.inWords) ?? "not given" }
    return Set(before.keys).union(now.keys).sorted().filter { before[$0] != now[$0] }
      .compactMap { said($0, word(before[$0]), word(now[$0])) }
  }

  private var inWords: String {
    switch self {
    case .integer(let value): "\(value)"
    // Of a float, as it was written.
    case .number(let value): "\(Float(value))"
    case .string(let value): value
    case .bool(let value): value ? "true" : "false"
    default:
      (try? JSONEncoder().encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "\(self)"
    }
  }
}
