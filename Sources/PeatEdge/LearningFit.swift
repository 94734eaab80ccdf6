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
    /// With the adapter as it was after each round, as many as were measured.
    public var laterFidelities: [Double]
    /// The loss before the first round and after each, in nats per token.
    public var losses: [Double]
    /// What the devices' work was.
    public var work: EdgeWork
    /// Of all data, that took part.
    public var share: Double
    /// Whether it was always the same devices; else they were drawn for each round.
    public var isSameTeam: Bool

    public init(
      fidelity: Double, laterFidelities: [Double] = [], losses: [Double], work: EdgeWork = .own,
      share: Double = 1, isSameTeam: Bool = false
    ) {
      self.fidelity = fidelity
      self.laterFidelities = laterFidelities
      self.losses = losses
      self.work = work
      self.share = share
      self.isSameTeam = isSameTeam
    }
  }

  public let model: LearningModel
  /// Root of the mean square of measured minus modelled loss, in nats.
  public let error: Double
  /// Why the fit should not be trusted far, with what to do, in words; empty where nothing speaks against it.
  public let cautions: [String]

  /// Least squares over η, the final loss, the floor and the slowing, by a search downhill from several places; with the ageing that the
  /// fidelities say.
  ///
  /// - Parameter elsewhere: the lowest loss that was measured otherwise, for constants that are fitted later: the final loss lies below it, too.
  /// - Throws: `badData` where no loss falls, so that there is nothing to fit.
  public init(_ curves: [Curve], lowest elsewhere: Double = .infinity) throws {
    let all = curves.flatMap(\.losses)
    guard var lowest = all.min(), let start = curves.first?.losses.first,
      all.allSatisfy(\.isFinite), lowest > 0, lowest < start,
      curves.contains(where: { $0.losses.count >= 3 })
    else {
      throw PeatError.badData(
        "The losses that were measured (\(all.map { ($0 * 1000).rounded() / 1000 })) do not fall, so no learning model can be fitted. Use more rounds or local steps, or a lower learning rate."
      )
    }
    if elsewhere > 0 { lowest = min(lowest, elsewhere) }
    // η; how far the final loss lies below the lowest measured; the floor; the slowing.
    let ranges = FitRanges(lowest: lowest, start: start)
    let ageing = Self.ageing(curves)
    let box = [ranges.rate, ranges.depth, ranges.floor, ranges.slowing]
    func candidate(_ values: [Double]) -> LearningModel {
      var model = LearningModel()
      model.rate = values[0]
      model.finalLoss = lowest - 0.001 - values[1]
      model.floor = values[2]
      model.slowing = values[3]
      model.ageing = ageing
      model.startGap = start - model.finalLoss
      return model
    }
    // A final loss far below all that was measured, reached ever more slowly, often fits a short run a little better than one close by, and foresees
    // worse: of fits that are nearly as good the one is taken that goes the least below.
    let free = Self.nearest(curves, box, candidate)
    var best = free
    for share in Self.depths {
      let close = min(box[1].upperBound, share * (start - lowest))
      let bound = Self.nearest(curves, [box[0], 0...close, box[2], box[3]], candidate)
      guard bound.error.squareRoot() <= Self.tolerance * free.error.squareRoot() else { continue }
      best = bound
      break
    }
    model = best.model
    error = best.error.squareRoot()
    cautions =
      ranges.cautions(
        of: best.model, error: error, rounds: (curves.map(\.losses.count).max() ?? 1) - 1)
      + [ranges.caution(of: best.model, beside: free.model)].compactMap { $0 }
      + FitRanges.cautions(ageing: ageing, misses: Self.misses(ageing, curves))
  }

  /// How far below the lowest loss the final one may lie, as shares of how far the loss fell, in the order in which they are tried.
  private static let depths = [0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75]
  /// By how much more than the best fit one may miss the measured losses that goes less far below them.
  private static let tolerance = 1.03

  /// The candidate with the least error in a box of constants: from some places of a coarse grid downhill.
  private static func nearest(
    _ curves: [Curve], _ box: [ClosedRange<Double>], _ candidate: ([Double]) -> LearningModel
  ) -> (model: LearningModel, error: Double) {
    func inside(_ values: [Double]) -> [Double] {
      zip(values, box).map { min(max($0, $1.lowerBound), $1.upperBound) }
    }
    var starts: [(values: [Double], error: Double)] = []
    for corner in 0..<5 * 5 * 5 * 5 {
      var rest = corner
      let values = box.map { range in
        let step = Double(rest % 5)
        rest /= 5
        return range.lowerBound + (range.upperBound - range.lowerBound) * step / 4
      }
      starts.append((values, error(candidate(values), curves)))
    }
    starts.sort { $0.error < $1.error }
    var best = (model: candidate(starts[0].values), error: starts[0].error)
    for start in starts.prefix(6) {
      let sizes = box.map { 0.1 * ($0.upperBound - $0.lowerBound) }
      let found = candidate(
        inside(
          downhill(from: start.values, sizes: sizes) { error(candidate(inside($0)), curves) }))
      let missed = error(found, curves)
      if missed < best.error { best = (found, missed) }
    }
    return best
  }

  /// μ: least squares over what was left of each fidelity after each round, `q · e^(−μ·round)`; 0 where they did not fall, or were not
  /// measured.
  private static func ageing(_ curves: [Curve]) -> Double {
    func error(_ ageing: Double) -> Double {
      misses(ageing, curves).reduce(0) { $0 + $1 * $1 }
    }
    guard curves.contains(where: { !$0.laterFidelities.isEmpty }) else { return 0 }
    // None, and in equal ratios.
    let range = FitRanges.ageing
    let width = naturalLogarithm(range.upperBound / range.lowerBound)
    let candidates =
      [0] + (0...4000).map { range.lowerBound * exponential(width * Double($0) / 4000) }
    return candidates.min { error($0) < error($1) } ?? 0
  }

  /// Modelled minus measured fidelities after each round.
  private static func misses(_ ageing: Double, _ curves: [Curve]) -> [Double] {
    curves.flatMap { curve in
      curve.laterFidelities.enumerated().map { round, measured in
        curve.fidelity * exponential(-ageing * Double(round + 1)) - measured
      }
    }
  }

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
    var recency = 0.0
    return curve.losses.dropFirst().enumerated().map { round, loss in
      // Of a device, in the mean over all.
      recency = curve.share + (1 - curve.share) * LearningModel.retained * recency
      let sum = model.progress(
        share: curve.share, fidelity: curve.fidelity, age: Double(round), gap: gap,
        work: curve.work)
      gap *=
        1
        - model.progress(
          together: sum, share: curve.share, coverage: curve.isSameTeam ? curve.share : recency,
          gap: gap)
      return model.finalLoss + gap - loss
    }
  }
}

/// Where a function of several numbers is small, near a start.
///
/// Source: Nelder and Mead 1965, <https://doi.org/10.1093/comjnl/7.4.308>.
private func downhill(
  from start: [Double], sizes: [Double], _ function: ([Double]) -> Double
) -> [Double] {
  var corners = [(start, function(start))]
  for axis in start.indices {
    var corner = start
    corner[axis] += sizes[axis]
    corners.append((corner, function(corner)))
  }
  let count = start.count
  for _ in 0..<2000 {
    corners.sort { $0.1 < $1.1 }
    if corners[count].1 - corners[0].1 <= 1e-14 { break }
    let center = start.indices.map { axis in
      corners.prefix(count).reduce(0) { $0 + $1.0[axis] } / Double(count)
    }
    func along(_ factor: Double) -> ([Double], Double) {
      let place = zip(center, corners[count].0).map { $0 + factor * ($0 - $1) }
      return (place, function(place))
    }
    let reflected = along(1)
    if reflected.1 < corners[0].1 {
      let expanded = along(2)
      corners[count] = expanded.1 < reflected.1 ? expanded : reflected
    } else if reflected.1 < corners[count - 1].1 {
      corners[count] = reflected
    } else {
      let contracted = reflected.1 < corners[count].1 ? along(0.5) : along(-0.5)
      if contracted.1 < min(reflected.1, corners[count].1) {
        corners[count] = contracted
      } else {
        for index in 1...count {
          let place = zip(corners[0].0, corners[index].0).map { ($0 + $1) / 2 }
          corners[index] = (place, function(place))
        }
      }
    }
  }
  return corners.min { $0.1 < $1.1 }?.0 ?? start
}
