import FedPEAT

extension WeightStorage {
  /// The storage of that name; throws `usage` where there is none.
  init(word: String) throws {
    guard let storage = WeightStorage(rawValue: word) else {
      throw PeatError.usage(
        "Unknown storage '\(word)'. "
          + suggestion(for: word, among: WeightStorage.allCases.map(\.rawValue)))
    }
    self = storage
  }
}
