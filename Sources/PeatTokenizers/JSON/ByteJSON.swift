/// A JSON value whose strings and keys stay bytes, and whose objects keep their order.
///
/// `JSONSerialization` gives dictionaries of `String`, in which two canonically equivalent tokens fall together; this
/// one keeps them apart.
package indirect enum ByteJSON: Sendable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(ByteString)
  case array([ByteJSON])
  case object([(key: ByteString, value: ByteJSON)])

  /// What kind of value it is, for error messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a truth value"
    case .integer: "an integer"
    case .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}
