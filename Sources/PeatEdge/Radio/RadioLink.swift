import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The large-scale channel between a device and its base station: what it loses on the way, in steps that remember.
package struct RadioLink: Sendable, Equatable, Codable {
  package private(set) var hasLineOfSight: Bool
  /// In dB.
  package private(set) var shadowing: Double
  /// Metres since line of sight was drawn.
  private var sinceDraw = 0.0
  /// |h|² of this round, where fading is of blocks; else 1.
  private var fade = 1.0
  private(set) var distance: Double

  package init(
    _ loss: PathLoss, distance: Double, _ radio: RadioConfiguration, _ random: inout SeededRandom
  ) {
    self.distance = distance
    hasLineOfSight = random.fraction() < loss.lineOfSightProbability(distance)
    shadowing =
      loss.shadowingDeviation(hasLineOfSight: hasLineOfSight) * Double(random.normal())
    draw(radio, &random)
  }

  /// Goes on to another place.
  ///
  /// Shadowing: S' = R·S + √(1 − R²)·σ·w, R = exp(−moved / d_corr) (Gudmundson 1991, <https://doi.org/10.1049/el:19911328>). Line of sight is
  /// drawn anew after 50 m; where it changes, so does the shadowing.
  package mutating func advance(
    _ loss: PathLoss, distance: Double, moved: Double, _ radio: RadioConfiguration,
    _ random: inout SeededRandom
  ) {
    self.distance = distance
    sinceDraw += moved
    var isNew = false
    if sinceDraw > PathLoss.lineOfSightDistance {
      sinceDraw = 0
      let sees = random.fraction() < loss.lineOfSightProbability(distance)
      isNew = sees != hasLineOfSight
      hasLineOfSight = sees
    }
    let deviation = loss.shadowingDeviation(hasLineOfSight: hasLineOfSight)
    let kept =
      isNew ? 0 : exp(-moved / loss.shadowingDistance(hasLineOfSight: hasLineOfSight))
    shadowing =
      kept * shadowing + (1 - kept * kept).squareRoot() * deviation * Double(random.normal())
    draw(radio, &random)
  }

  private mutating func draw(_ radio: RadioConfiguration, _ random: inout SeededRandom) {
    guard radio.fading == .block else { return }
    guard hasLineOfSight else {
      fade = -log(1 - random.fraction())
      return
    }
    let k = ratio(decibels: radio.ricianFactor)
    let spread = (0.5 / (k + 1)).squareRoot()
    let real = (k / (k + 1)).squareRoot() + spread * Double(random.normal())
    let imaginary = spread * Double(random.normal())
    fade = real * real + imaginary * imaginary
  }

  /// The channel's gain of power.
  func gain(_ loss: PathLoss) -> Double { largeScaleGain(loss) * fade }

  /// Its mean over fading: all of it that a report can say, since what fades has changed long before a plan is carried out.
  func largeScaleGain(_ loss: PathLoss) -> Double {
    ratio(decibels: -(loss.loss(distance, hasLineOfSight: hasLineOfSight) + shadowing))
  }
}
