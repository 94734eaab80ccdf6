/// A piece of UTF-8 text that is equal to another only if its bytes are.
///
/// Swift's `String` calls "é" in one scalar and "é" in two equal (canonical equivalence); a vocabulary holds both as
/// different tokens. Everything in this room therefore works on bytes.
package struct ByteString: Hashable, Sendable, ExpressibleByStringLiteral {
  package var bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }
  package init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
  package init(_ text: String) { self.bytes = Array(text.utf8) }
  package init(stringLiteral text: String) { self.bytes = Array(text.utf8) }

  /// The text; bytes that are no UTF-8 show as U+FFFD.
  package var text: String { String(decoding: bytes, as: UTF8.self) }

  package func hash(into hasher: inout Hasher) {
    bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
  }
}
