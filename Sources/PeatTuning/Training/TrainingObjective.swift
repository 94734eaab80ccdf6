import PeatModels
import PeatTensor

/// What a trainer makes small.
public protocol TrainingObjective: Sendable {
  /// The loss of one worker's part of a batch and, on a recording tape, the start of its gradient.
  ///
  /// - Parameters:
  ///   - inputs: those of the part.
  ///   - targets: what is to be predicted, negative where nothing is.
  ///   - layout: how they divide into sequences.
  ///   - scale: what the summed loss is multiplied with before gradients are taken: 1 over the targets of the batch.
  func loss(
    _ inputs: ModelInputs, targets: UnsafeBufferPointer<Int32>,
    layout: SequenceLayout, scale: Float, on tape: Tape
  ) -> TokenLoss

  /// Called after each update, when the parameters may be given back what they must keep.
  func restrain()

  /// Whether workers add to one gradient, in turn, instead of one of their own each; the embedding and the head must be frozen then.
  var sharesGradient: Bool { get }

  /// Says with all its constants what it is: a saved training goes on with no other.
  var name: String { get }
}

extension TrainingObjective {
  public func restrain() {}
  public var sharesGradient: Bool { false }
}
