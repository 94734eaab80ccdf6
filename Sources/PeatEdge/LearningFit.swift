import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Finds the learning model that comes nearest to losses that were measured.
public struct LearningFit: Sendable {
  /// What was measured with all devices taking part on one emulator.
  public struct Curve: Sendable {
    public var fidelity: Double
    /// The loss before the first round and after each, in nats per token.
    public var losses: [Double]
    /// What the devices' work was.
    public var work: EdgeWork

    public init(fidelity: Double, losses: [Double], work: EdgeWork = .own) {
      self.fidelity = fidelity
      self.losses = losses
      self.work = work
    }
  }

  public let model: LearningModel
  /// Root of the mean square of measured minus modelled loss, in nats.
  public let error: Double

  /// Least squares over η, the final loss, the floor and the slowing, by a grid that is refined around its best point.
  ///
  /// - Throws: `badData` where no loss falls, so that there is nothing to fit.
  public init(_ curves: [Curve]) throws {
    let all = curves.flatMap(\.losses)
    guard let lowest = all.min(), let start = curves.first?.losses.first,
      all.allSatisfy(\.isFinite), lowest > 0, lowest < start, curves.contains(where: { $0.losses.count >= 3 })
    else {
      throw PeatError.badData(
        "The losses that were measured (\(all.map { ($0 * 1000).rounded() / 1000 })) do not fall, so no learning model can be fitted. Use more rounds or local steps, or a lower learning rate."
      )
    }
    var best = (model: LearningModel(), error: Double.infinity)
    // η; how far the final loss lies below the lowest measured; the floor; the slowing.
    let first = [
      0.01...0.99, 0...0.98 * lowest, 0...2 * (start - lowest), 0...6,
    ]
    var box = first
    for _ in 0..<12 {
      var place = box.map(\.lowerBound)
      for corner in 0..<Self.points * Self.points * Self.points * Self.points {
        var rest = corner
        let values = box.map { range in
          let step = rest % Self.points
          rest /= Self.points
          return range.lowerBound + (range.upperBound - range.lowerBound) * Double(step)
            / Double(Self.points - 1)
        }
        var model = LearningModel()
        model.rate = values[0]
        model.finalLoss = lowest - 0.001 - values[1]
        model.floor = values[2]
        model.slowing = values[3]
        model.ageing = 0
        model.startGap = start - model.finalLoss
        let error = Self.error(model, curves)
        if error < best.error {
          best = (model, error)
          place = values
        }
      }
      // A smaller box around the best point, within the first one.
      for axis in box.indices {
        let reach = 0.3 * (box[axis].upperBound - box[axis].lowerBound)
        box[axis] = (place[axis] - reach...place[axis] + reach).clamped(to: first[axis])
      }
    }
    model = best.model
    error = best.error.squareRoot()
  }

  /// Of the grid, along each axis.
  private static let points = 9

  /// The value of one more constant with which a model comes nearest to how much measured curves differ from another.
  ///
  /// - Parameters:
  ///   - baseline: the other, of as many rounds: what the model gets wrong of it does not count.
  ///   - set: puts the value into the model.
  public static func constant(
    _ range: ClosedRange<Double>, _ model: LearningModel, _ curves: [Curve], baseline: Curve,
    _ set: (inout LearningModel, Double) -> Void
  ) -> Double {
    func error(_ value: Double) -> Double {
      var changed = model
      set(&changed, value)
      let own = residuals(changed, baseline)
      return curves.reduce(0) { sum, curve in
        zip(residuals(changed, curve), own).reduce(sum) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      }
    }
    let candidates = (0...400).map { step in
      let value = range.lowerBound + (range.upperBound - range.lowerBound) * Double(step) / 400
      return (value, error(value))
    }
    return candidates.min { $0.1 < $1.1 }?.0 ?? range.lowerBound
  }

  /// Mean square of what is left.
  private static func error(_ model: LearningModel, _ curves: [Curve]) -> Double {
    let left = curves.flatMap { residuals(model, $0) }
    return left.reduce(0) { $0 + $1 * $1 } / Double(max(left.count, 1))
  }

  /// Modelled minus measured losses after each round.
  private static func residuals(_ model: LearningModel, _ curve: Curve) -> [Double] {
    var gap = model.startGap
    return curve.losses.dropFirst().map { loss in
      gap *=
        1
        - model.progress(
          share: 1, fidelity: curve.fidelity, age: 0, gap: gap, work: curve.work)
      return model.finalLoss + gap - loss
    }
  }
}
