import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A cell: its base station, its band and what its channels are like.
public struct RadioConfiguration: Sendable, Codable, Equatable {
  /// How small-scale fading enters a rate.
  public enum Fading: String, ConfigurationWord {
    /// The mean over fades: a transfer lasts thousands of them.
    case ergodic
    /// One fade for a whole round, as many papers have it.
    case block
  }

  /// How the band is divided among those that take part.
  public enum Sharing: String, ConfigurationWord {
    /// So that the last device is ready as early as possible.
    case optimal
    case equal
    /// Each device has an equal part for itself, whoever takes part: links of their own, as at home.
    case dedicated
  }

  public var scenario: PathLoss.Scenario = .urbanMacro
  /// In metres.
  public var radius = 500.0
  /// In GHz.
  public var carrier = 3.5
  /// In hertz, down and up each.
  public var bandwidth = 20e6
  /// In dBm.
  public var basePower = 43.0
  public var devicePower = 23.0
  /// In dB.
  public var baseNoiseFigure = 5.0
  public var deviceNoiseFigure = 9.0
  /// What is reached of Shannon's capacity, and bit/s/Hz at most; TR 36.942 has 0.6 and 4.4 down, 0.4 and 2.0 up.
  public var attenuation = 1.0
  public var maximumEfficiency = 7.4063
  /// Strength of the direct path where there is one, in dB (TR 38.901, Table 7.5-6: 9).
  public var ricianFactor = 9.0
  public var fading = Fading.ergodic
  public var sharing = Sharing.optimal

  public init() {}

  /// Throws `badData` where a number makes no sense.
  public func validate() throws {
    func check(_ name: String, _ value: Double, _ range: ClosedRange<Double>) throws {
      guard range.contains(value) else {
        throw PeatError.badData(
          "radio.\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)."
        )
      }
    }
    let least = PathLoss(scenario, carrier: carrier).leastDistance
    try check("radius", radius, (least + 1)...5000)
    try check("carrier", carrier, 0.5...100)
    try check("bandwidth", bandwidth, 1e3...1e10)
    try check("basePower", basePower, -20...80)
    try check("devicePower", devicePower, -50...60)
    try check("baseNoiseFigure", baseNoiseFigure, 0...40)
    try check("deviceNoiseFigure", deviceNoiseFigure, 0...40)
    try check("attenuation", attenuation, 0.01...1)
    try check("maximumEfficiency", maximumEfficiency, 0.01...100)
    try check("ricianFactor", ricianFactor, -20...40)
  }
}

/// The rates of a cell's links.
public struct RadioRates: Sendable {
  public let configuration: RadioConfiguration
  /// −174 dBm/Hz and a noise figure, in watts per hertz.
  private let deviceNoise: Double
  private let baseNoise: Double
  private let downlinkDensity: Double
  private let uplinkPower: Double
  private let rayleigh: CapacityTable
  private let rician: CapacityTable

  public init(_ configuration: RadioConfiguration) {
    self.configuration = configuration
    deviceNoise = watts(dBm: -174 + configuration.deviceNoiseFigure)
    baseNoise = watts(dBm: -174 + configuration.baseNoiseFigure)
    // The base station spreads its power evenly over the band; a device puts all it has into its part.
    downlinkDensity = watts(dBm: configuration.basePower) / configuration.bandwidth
    uplinkPower = watts(dBm: configuration.devicePower)
    func bounded(_ capacity: Double) -> Double {
      min(configuration.attenuation * capacity, configuration.maximumEfficiency)
    }
    switch configuration.fading {
    case .ergodic:
      let k = ratio(decibels: configuration.ricianFactor)
      rayleigh = CapacityTable { bounded(ErgodicCapacity.rayleigh(snr: $0)) }
      rician = CapacityTable { bounded(ErgodicCapacity.rician(snr: $0, k: k)) }
    case .block:
      rayleigh = CapacityTable { bounded(log2(1 + $0)) }
      rician = rayleigh
    }
  }

  /// In bit/s.
  public func downlink(gain: Double, band: Double, hasLineOfSight: Bool) -> Double {
    band * efficiency(downlinkDensity * gain / deviceNoise, hasLineOfSight)
  }

  /// In bit/s.
  public func uplink(gain: Double, band: Double, hasLineOfSight: Bool) -> Double {
    band > 0 ? band * efficiency(uplinkPower * gain / (baseNoise * band), hasLineOfSight) : 0
  }

  private func efficiency(_ snr: Double, _ hasLineOfSight: Bool) -> Double {
    (hasLineOfSight ? rician : rayleigh).efficiency(snr: snr)
  }
}
