import PeatTensor

/// How a step follows from a gradient.
public enum OptimizerRule: String, ConfigurationWord {
  /// AdamW.
  case adam
  /// Plain gradient descent, `p ← p − η·g`, with weight decay of matrices as AdamW has it: nothing is remembered from step to step.
  case sgd
}
