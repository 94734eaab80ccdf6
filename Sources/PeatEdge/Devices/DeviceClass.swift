import PeatTensor

/// Two numbers between which a device's lies, all magnitudes equally likely.
public struct Spread: Sendable, Codable, Equatable {
  public var low: Double
  public var high: Double

  public init(_ low: Double, _ high: Double) {
    self.low = low
    self.high = high
  }

  func draw(_ random: inout SeededRandom) -> Double {
    low == high ? low : exponential(random.fraction(naturalLogarithm(low), naturalLogarithm(high)))
  }

  func validate(_ name: String, _ range: ClosedRange<Double>) throws {
    guard low <= high, range.contains(low), range.contains(high) else {
      throw PeatError.badData(
        "\(name) is \(low) to \(high); it must rise and lie between \(range.lowerBound) and \(range.upperBound)."
      )
    }
  }
}

/// A kind of device: what it can do, what it spends, and how far one can rely on it.
public struct DeviceClass: Sendable, Codable, Equatable {
  public var name: String
  /// How many of all devices, as a weight beside the other classes'.
  public var share: Double
  /// In FLOP/s of training, as they are reached and not as they are advertised.
  public var compute: Spread
  /// Free memory in bytes.
  public var memory: Spread
  /// In joules per FLOP, and in watts while it receives and sends.
  public var energyPerOperation = 1e-11
  public var receivePower = 0.8
  public var sendPower = 1.2
  /// In joules for the whole run; `nil` where it hangs on the mains.
  public var battery: Double?
  /// How likely a device that is there is there in the next round, and one that is not.
  public var stays = 1.0
  public var returns = 1.0
  /// How likely it fails in a round that it takes part in.
  public var dropout = 0.0

  public init(_ name: String, share: Double = 1, compute: Spread, memory: Spread) {
    self.name = name
    self.share = share
    self.compute = compute
    self.memory = memory
  }

  private enum CodingKeys: String, CodingKey {
    case name, share, compute, memory, energyPerOperation, receivePower, sendPower, battery
    case stays, returns, dropout
  }

  /// What a file does not say is as `init` has it.
  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      try table.decode(String.self, forKey: .name),
      share: try table.decodeIfPresent(Double.self, forKey: .share) ?? 1,
      compute: try table.decode(Spread.self, forKey: .compute),
      memory: try table.decode(Spread.self, forKey: .memory))
    func take(_ key: CodingKeys, _ path: WritableKeyPath<DeviceClass, Double>) throws {
      if let value = try table.decodeIfPresent(Double.self, forKey: key) {
        self[keyPath: path] = value
      }
    }
    try take(.energyPerOperation, \.energyPerOperation)
    try take(.receivePower, \.receivePower)
    try take(.sendPower, \.sendPower)
    try take(.stays, \.stays)
    try take(.returns, \.returns)
    try take(.dropout, \.dropout)
    battery = try table.decodeIfPresent(Double.self, forKey: .battery)
  }

  /// Says every key, also the battery of a device that has none.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(name, forKey: .name)
    try table.encode(share, forKey: .share)
    try table.encode(compute, forKey: .compute)
    try table.encode(memory, forKey: .memory)
    try table.encode(energyPerOperation, forKey: .energyPerOperation)
    try table.encode(receivePower, forKey: .receivePower)
    try table.encode(sendPower, forKey: .sendPower)
    try table.encode(battery, forKey: .battery)
    try table.encode(stays, forKey: .stays)
    try table.encode(returns, forKey: .returns)
    try table.encode(dropout, forKey: .dropout)
  }

  func validate() throws {
    func check(_ what: String, _ value: Double, _ range: ClosedRange<Double>) throws {
      guard range.contains(value) else {
        throw PeatError.badData(
          "The device class '\(name)' has \(what) \(value); it must be between \(range.lowerBound) and \(range.upperBound)."
        )
      }
    }
    guard name.utf8.count <= 1000 else {
      throw PeatError.badData(
        "The device class '\(name.prefix(60))…' has a name of \(name.utf8.count) bytes; it can have 1000."
      )
    }
    try compute.validate("The device class '\(name)': compute", 1e6...1e18)
    try memory.validate("The device class '\(name)': memory", 1e6...1e15)
    try check("share", share, 1e-9...1e9)
    try check("energyPerOperation", energyPerOperation, 0...1)
    try check("receivePower", receivePower, 0...1e4)
    try check("sendPower", sendPower, 0...1e4)
    try check("battery", battery ?? 1, 1e-3...1e12)
    try check("stays", stays, 0...1)
    try check("returns", returns, 0...1)
    try check("dropout", dropout, 0...1)
  }
}
