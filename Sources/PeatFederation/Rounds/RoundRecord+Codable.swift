/// In JSON every key is there: null where it says nothing.
extension ClientOutcome: Codable {
  private enum CodingKeys: String, CodingKey {
    case client, emulatorLevel, result, exampleCount, metrics, telemetry, observed, bytesDown
    case bytesUp
  }

  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      client: try table.decode(ClientID.self, forKey: .client),
      emulatorLevel: try table.decode(Int.self, forKey: .emulatorLevel),
      result: try table.decode(ClientResult.self, forKey: .result),
      exampleCount: try table.decodeIfPresent(Int.self, forKey: .exampleCount),
      metrics: try table.decode([String: Double].self, forKey: .metrics),
      telemetry: try table.decodeIfPresent(Telemetry.self, forKey: .telemetry),
      bytesDown: try table.decode(Int.self, forKey: .bytesDown),
      bytesUp: try table.decode(Int.self, forKey: .bytesUp))
    observed = try table.decodeIfPresent(ObservedTrip.self, forKey: .observed)
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(client, forKey: .client)
    try table.encode(emulatorLevel, forKey: .emulatorLevel)
    try table.encode(result, forKey: .result)
    try table.encode(exampleCount, forKey: .exampleCount)
    try table.encode(metrics, forKey: .metrics)
    try table.encode(telemetry, forKey: .telemetry)
    try table.encode(observed, forKey: .observed)
    try table.encode(bytesDown, forKey: .bytesDown)
    try table.encode(bytesUp, forKey: .bytesUp)
  }
}

extension RoundRecord: Codable {
  private enum CodingKeys: String, CodingKey {
    case round, attempt, plan, outcomes, metrics, renewedLevels, serverWeight, serverFailure
    case seconds
  }

  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      round: try table.decode(Int.self, forKey: .round),
      attempt: try table.decode(Int.self, forKey: .attempt),
      plan: try table.decode(RoundPlan.self, forKey: .plan),
      outcomes: try table.decode([ClientOutcome].self, forKey: .outcomes),
      metrics: try table.decode([String: Double].self, forKey: .metrics),
      serverWeight: try table.decode(Double.self, forKey: .serverWeight),
      seconds: try table.decode(Double.self, forKey: .seconds))
    renewedLevels = try table.decode([Int].self, forKey: .renewedLevels)
    serverFailure = try table.decodeIfPresent(String.self, forKey: .serverFailure)
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(round, forKey: .round)
    try table.encode(attempt, forKey: .attempt)
    try table.encode(plan, forKey: .plan)
    try table.encode(outcomes, forKey: .outcomes)
    try table.encode(metrics, forKey: .metrics)
    try table.encode(renewedLevels, forKey: .renewedLevels)
    try table.encode(serverWeight, forKey: .serverWeight)
    try table.encode(serverFailure, forKey: .serverFailure)
    try table.encode(seconds, forKey: .seconds)
  }
}
