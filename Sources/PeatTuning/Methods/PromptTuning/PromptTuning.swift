import PeatModels
import PeatNN
import PeatTensor

/// Prompt tuning: in front of the embeddings of each sequence's tokens, P learned ones.
///
/// The one tensor is `prompt_embeddings`, `[P, d]`, under PEFT's name. It goes into the lowest block with the tokens, which get the positions
/// behind it; nothing is predicted from it, so that losses compare with those of the model without.
///
/// Source: Lester, Al-Rfou and Constant 2021, <https://arxiv.org/abs/2104.08691>.
public struct PromptTuning: TuningMethod {
  public static let name = "prompt-tuning"
  /// The tensor's name, PEFT's.
  public static let tensorName = "prompt_embeddings"

  public let configuration: VirtualTokenConfiguration

  public init(_ configuration: VirtualTokenConfiguration) { self.configuration = configuration }

  /// The embeddings of P tokens: the model starts as if they stood in front of each sequence. Normal numbers where the configuration
  /// wants that.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    try BlockLookup(model).require(blocks)
    let (count, width) = (configuration.virtualTokens, model.configuration.embeddingWidth)
    try model.checkRoom(forVirtualTokens: count)
    // Values, their copies in training, gradient and two moments.
    try MemoryDemand.check(
      bytes: 24 * Double(count) * Double(width), for: "A prompt of \(count) virtual tokens",
      advice: "Use fewer virtual tokens.")
    let tokens = try configuration.start.tokens(
      count, vocabularySize: model.configuration.vocabularySize, using: &random)
    let prompt =
      tokens.map { model.embeddings(of: $0) }
      ?? .normal([count, width], deviation: 1, using: &random)
    return [Self.tensorName: prompt]
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let shape = [configuration.virtualTokens, model.configuration.embeddingWidth]
    if let stranger = state.keys.filter({ $0 != Self.tensorName }).min() {
      throw PeatError.badData("The adapter has '\(stranger)', which is not part of a prompt.")
    }
    guard let tensor = state[Self.tensorName] else {
      throw PeatError.badData("The adapter is empty.")
    }
    guard tensor.shape == shape else {
      throw PeatError.badData(
        "The adapter's '\(Self.tensorName)' has shape \(tensor.shape); \(shape[0]) virtual tokens of this model are "
          + "\(shape). Was it tuned for another model?")
    }
    guard model.prompt == nil else {
      throw PeatError.badData("The model already carries an adapter; remove it first.")
    }
    try model.checkRoom(forVirtualTokens: shape[0])
    let prompt = Parameter(Self.tensorName, tensor.copied())
    model.prompt = prompt
    return InjectedAdapter(
      parameters: [(Self.tensorName, prompt)], undo: { model.prompt = nil })
  }
}
