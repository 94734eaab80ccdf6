import PeatTensor
import Testing

/// Expects a `PeatError` whose message has these words.
package func expectError(
  _ code: PeatError.Code = .badData, _ words: String...,
  sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
  let error = #expect(throws: PeatError.self, sourceLocation: sourceLocation) { try body() }
  guard let error else { return }
  #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
  for word in words {
    #expect(error.message.contains(word), "'\(word)' in: \(error)", sourceLocation: sourceLocation)
  }
}
