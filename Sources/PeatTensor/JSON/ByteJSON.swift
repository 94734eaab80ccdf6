/// A JSON value whose strings and keys stay bytes, whose objects keep their order, and whose numbers their spelling.
///
/// `JSONSerialization` gives dictionaries of `String`, in which two canonically equivalent tokens fall together; this
/// one keeps them apart. No size of number can overflow before somebody asks for it.
package indirect enum ByteJSON: Sendable {
  case null
  case bool(Bool)
  case number(String)
  case string(ByteString)
  case array([ByteJSON])
  case object([(key: ByteString, value: ByteJSON)])

  /// What kind of value it is, for error messages.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a truth value"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// The number, where it is a whole one that fits.
  package var integer: Int? { if case .number(let text) = self { Int(text) } else { nil } }
}
