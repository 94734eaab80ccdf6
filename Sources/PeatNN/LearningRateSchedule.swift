import PeatTensor

/// How the learning rate changes over a run: a linear warm-up from 0, then one of three courses.
///
/// The factors are those of transformers' `get_scheduler`.
public struct LearningRateSchedule: Sendable, Codable, Equatable {
  public enum Course: String, ConfigurationWord {
    case constant
    /// Straight down to 0 at the last step.
    case linear
    /// Half a cosine down to 0 at the last step.
    case cosine
  }

  public var course: Course
  public var warmUpSteps: Int

  public init(_ course: Course = .constant, warmUpSteps: Int = 0) {
    self.course = course
    self.warmUpSteps = warmUpSteps
  }

  /// What the base rate is multiplied with at `step` (from 0) of `steps`.
  public func factor(at step: Int, of steps: Int) -> Float {
    if step < warmUpSteps { return Float(step) / Float(max(1, warmUpSteps)) }
    let progress = Double(step - warmUpSteps) / Double(max(1, steps - warmUpSteps))
    switch course {
    case .constant: return 1
    case .linear: return Float(max(0, 1 - progress))
    case .cosine: return Float(max(0, 0.5 * (1 + cosine(Double.pi * progress))))
    }
  }
}
