import Foundation

/// What a run learns, and what its numbers are numbers of.
extension RunConfiguration {
  /// What a run learns.
  public enum Task: String, ConfigurationWord {
    case nextToken = "next-token"
    case maskedTokens = "masked-tokens"
    case classification

    /// What a model's head is for.
    public init(headOf model: TransformerConfiguration) {
      self =
        model.head?.labels != nil
        ? .classification : model.predictsMaskedTokens ? .maskedTokens : .nextToken
    }

    /// What numbers of it are numbers of.
    public var metric: Metric {
      switch self {
      case .nextToken: .perplexity
      case .maskedTokens: .maskedPerplexity
      case .classification: .accuracy
      }
    }

    /// Throws where a model's head is for something else.
    ///
    /// - Parameter name: of the model.
    public func check(_ model: TransformerConfiguration, named name: String) throws {
      let own = Task(headOf: model)
      guard self != .classification, model.head != nil, self != own else { return }
      throw PeatError.usage(
        "'\(name)' has a head for \(own.rawValue), not for \(rawValue). Leave the task out, or give 'task: \(own.rawValue)' (--task \(own.rawValue))."
      )
    }
  }

  /// What its numbers are numbers of; of a task that is not said, as if next tokens were predicted.
  public var metric: Metric { (task ?? .nextToken).metric }

  /// The same with the task said: where it was not, what the model's head is for.
  func sayingTask(of model: TransformerConfiguration) throws -> RunConfiguration {
    var result = self
    result.task = task ?? Task(headOf: model)
    // What could not be known before.
    try result.validate()
    return result
  }
}
