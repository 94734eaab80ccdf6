import PeatModels
import PeatTensor

/// What the virtual tokens of a prompt or a prefix are before they are tuned.
public enum VirtualTokenStart: Sendable, Equatable {
  /// Independent normal numbers of variance 1, as PEFT's RANDOM.
  case normal
  /// Tokens drawn from the vocabulary, as PEFT's SAMPLE_VOCAB.
  case vocabulary
  /// These tokens, a text's; repeated where they are too few, and cut where they are too many, as PEFT's TEXT.
  case tokens([Int32])

  /// So many tokens to start from; `nil` where numbers are drawn instead.
  func tokens(
    _ count: Int, vocabularySize: Int, using random: inout SeededRandom
  ) throws -> [Int32]? {
    switch self {
    case .normal: return nil
    case .vocabulary:
      return (0..<count).map { _ in Int32(random.integer(below: vocabularySize)) }
    case .tokens(let tokens):
      guard !tokens.isEmpty else {
        throw PeatError.usage("The text that virtual tokens are to start from has no tokens.")
      }
      if let token = tokens.first(where: { $0 < 0 || $0 >= vocabularySize }) {
        throw PeatError.badData(
          "The tokenizer gives token \(token), the model knows \(vocabularySize). Check that tokenizer.json and "
            + "config.json come from the same checkpoint.")
      }
      return (0..<count).map { tokens[$0 % tokens.count] }
    }
  }
}

extension TransformerConfiguration {
  /// Throws where sequences are always as long as the model's context, so that virtual tokens have no room.
  public func checkRoom(forVirtualTokens count: Int) throws {
    guard count > 0, image != nil else { return }
    throw PeatError.usage(
      "This model of the type \(modelType) sees pictures, whose patches take all of its \(contextLength) positions: there is no room for virtual tokens. Take \(LoRA.name), \(IA3.name), \(NormTuning.name), \(BitFit.name), \(Bottleneck.name) or \(EndBlocks.name)."
    )
  }
}

extension TransformerModel {
  /// Throws where virtual tokens leave no room for any other.
  func checkRoom(forVirtualTokens count: Int) throws {
    try configuration.checkRoom(forVirtualTokens: count)
    guard count < contextLength else {
      throw PeatError.badData(
        "\(count) virtual tokens leave no room in a context of \(contextLength)\(besideVirtualTokens). Use fewer, or a "
          + "model with a longer context.")
    }
  }
}

/// How many virtual tokens a prompt or a prefix may have.
func checkVirtualTokens(_ count: Int) throws {
  guard count > 0, count <= 1 << 16 else {
    throw PeatError.usage(
      "\(count) virtual tokens make no sense; there is at least 1, often 20, and at most 65536.")
  }
}
