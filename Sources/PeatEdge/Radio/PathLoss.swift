import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a radio wave loses on its way through a city, by distance: urban macro and urban micro cells.
///
/// Source: 3GPP TR 38.901 v17, *Study on channel model for frequencies from 0.5 to 100 GHz*: losses of Table 7.4.1-1, probability of
/// line of sight of Table 7.4.2-1 (devices up to 13 m high), shadowing of Tables 7.4.1-1 and 7.5-6.
public struct PathLoss: Sendable, Codable, Equatable {
  public enum Scenario: String, ConfigurationWord {
    /// A base station of 25 m above the roofs, cells of hundreds of metres.
    case urbanMacro = "UMa"
    /// A base station of 10 m in a street canyon, cells of a hundred metres.
    case urbanMicro = "UMi"
  }

  public var scenario: Scenario
  /// In GHz.
  public var carrier: Double
  /// Height of a device, in metres.
  public var deviceHeight: Double

  public init(_ scenario: Scenario, carrier: Double, deviceHeight: Double = 1.5) {
    self.scenario = scenario
    self.carrier = carrier
    self.deviceHeight = deviceHeight
  }

  /// Height of the base station, in metres.
  public var baseHeight: Double { scenario == .urbanMacro ? 25 : 10 }
  /// The least distance on the ground that the formulas hold for, in metres.
  public var leastDistance: Double { scenario == .urbanMacro ? 35 : 10 }

  /// Loss in dB at a distance on the ground in metres, where the base station can be seen.
  public func withLineOfSight(_ distance: Double) -> Double {
    let height = baseHeight - deviceHeight
    let squared = distance * distance + height * height
    let frequency = 20 * log10(carrier)
    // Beyond it the ray from the ground weakens the direct one.
    let breakpoint = 4 * (baseHeight - 1) * (deviceHeight - 1) * carrier * 1e9 / 3e8
    switch scenario {
    case .urbanMacro:
      return distance <= breakpoint
        ? 28 + 11 * log10(squared) + frequency
        : 28 + 20 * log10(squared) + frequency
          - 9 * log10(breakpoint * breakpoint + height * height)
    case .urbanMicro:
      return distance <= breakpoint
        ? 32.4 + 10.5 * log10(squared) + frequency
        : 32.4 + 20 * log10(squared) + frequency
          - 9.5 * log10(breakpoint * breakpoint + height * height)
    }
  }

  /// Loss in dB where it can't.
  public func withoutLineOfSight(_ distance: Double) -> Double {
    let height = baseHeight - deviceHeight
    let squared = distance * distance + height * height
    let loss: Double =
      switch scenario {
      case .urbanMacro:
        13.54 + 19.54 * log10(squared) + 20 * log10(carrier) - 0.6 * (deviceHeight - 1.5)
      case .urbanMicro:
        22.4 + 17.65 * log10(squared) + 21.3 * log10(carrier) - 0.3 * (deviceHeight - 1.5)
      }
    return max(loss, withLineOfSight(distance))
  }

  public func loss(_ distance: Double, hasLineOfSight: Bool) -> Double {
    hasLineOfSight ? withLineOfSight(distance) : withoutLineOfSight(distance)
  }

  /// How likely a device at this distance sees the base station.
  public func lineOfSightProbability(_ distance: Double) -> Double {
    if distance <= 18 { return 1 }
    let scale = scenario == .urbanMacro ? 63.0 : 36.0
    return 18 / distance + exp(-distance / scale) * (1 - 18 / distance)
  }

  /// Deviation of the shadowing, in dB.
  public func shadowingDeviation(hasLineOfSight: Bool) -> Double {
    switch scenario {
    case .urbanMacro: hasLineOfSight ? 4 : 6
    case .urbanMicro: hasLineOfSight ? 4 : 7.82
    }
  }

  /// How far one must go for a shadowing that is correlated by 1/e with the one before, in metres.
  public func shadowingDistance(hasLineOfSight: Bool) -> Double {
    switch scenario {
    case .urbanMacro: hasLineOfSight ? 37 : 50
    case .urbanMicro: hasLineOfSight ? 10 : 13
    }
  }

  /// How far one must go for line of sight to be drawn anew, in metres (TR 38.901, Table 7.6.3.1-2).
  public static let lineOfSightDistance = 50.0
}
