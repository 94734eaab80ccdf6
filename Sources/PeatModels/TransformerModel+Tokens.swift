import PeatTensor

/// The same for who has nothing but tokens.
extension TransformerModel {
  public func hiddenStates(
    _ tokens: UnsafeBufferPointer<Int32>, layout: SequenceLayout, on tape: Tape,
    checkpointing: Bool = false, cache: KeyValueCache? = nil, noise: StateNoise? = nil
  ) -> Activation {
    hiddenStates(
      ModelInputs(tokens), layout: layout, on: tape, checkpointing: checkpointing, cache: cache,
      noise: noise)
  }

  package func hiddenStates(
    below count: Int, _ tokens: UnsafeBufferPointer<Int32>, layout: SequenceLayout, on tape: Tape
  ) -> Activation {
    hiddenStates(below: count, ModelInputs(tokens), layout: layout, on: tape)
  }

  public func loss(
    _ tokens: UnsafeBufferPointer<Int32>, targets: UnsafeBufferPointer<Int32>,
    layout: SequenceLayout, scale: Float = 1, on tape: Tape, checkpointing: Bool = false,
    logitRows: Int = 256, noise: StateNoise? = nil
  ) -> TokenLoss {
    loss(
      ModelInputs(tokens), targets: targets, layout: layout, scale: scale, on: tape,
      checkpointing: checkpointing, logitRows: logitRows, noise: noise)
  }
}
