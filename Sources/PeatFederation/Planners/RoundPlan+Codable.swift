/// In JSON every key is there: null where it says nothing. Who takes no part has no work, whatever a file says.
extension RoundPlan.Assignment: Codable {
  private enum CodingKeys: String, CodingKey {
    case participates, emulatorLevel, refresh, localSteps, learningRateScale, trainedRank
    case uploadBits, transmitPower, bandwidth
    case isAdded = "added"
    case reason, regret
  }

  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    func value<Value: Decodable>(_ key: CodingKeys) throws -> Value? {
      try table.decodeIfPresent(Value.self, forKey: key)
    }
    guard try table.decode(Bool.self, forKey: .participates) else {
      self = .leftOut(because: try value(.reason))
      regret = try value(.regret)
      return
    }
    self.init(
      emulatorLevel: try table.decode(Int.self, forKey: .emulatorLevel),
      refresh: try value(.refresh) ?? false, localSteps: try value(.localSteps),
      transmitPower: try value(.transmitPower), bandwidth: try value(.bandwidth))
    learningRateScale = try value(.learningRateScale)
    trainedRank = try value(.trainedRank)
    uploadBits = try value(.uploadBits)
    isAdded = try value(.isAdded) ?? false
    reason = try value(.reason)
    regret = try value(.regret)
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(participates, forKey: .participates)
    try table.encode(emulatorLevel, forKey: .emulatorLevel)
    try table.encode(refresh, forKey: .refresh)
    try table.encode(localSteps, forKey: .localSteps)
    try table.encode(learningRateScale, forKey: .learningRateScale)
    try table.encode(trainedRank, forKey: .trainedRank)
    try table.encode(uploadBits, forKey: .uploadBits)
    try table.encode(transmitPower, forKey: .transmitPower)
    try table.encode(bandwidth, forKey: .bandwidth)
    try table.encode(isAdded, forKey: .isAdded)
    try table.encode(reason, forKey: .reason)
    try table.encode(regret, forKey: .regret)
  }
}
