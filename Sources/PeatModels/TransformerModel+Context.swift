import PeatTensor

extension TransformerModel {
  /// Throws `usage` where a context is none, or longer than the model reads with the adapter that is in it.
  public func checkContext(_ context: Int) throws {
    guard context >= 1, context <= contextLength else {
      throw PeatError.usage(
        "A context of \(context) does not fit: it must be between 1 and \(contextLength), the longest the model reads\(besideVirtualTokens)."
      )
    }
  }
}
