/// What a device measured while it took part in one round.
public struct Telemetry: Sendable, Codable, Equatable {
  /// Payload received and sent in this round, in bytes: emulator, adapter, update.
  public var bytesDown: Int
  public var bytesUp: Int
  /// Seconds spent receiving the emulator and the adapter.
  public var downloadSeconds: Double
  /// Seconds spent training.
  public var computeSeconds: Double
  /// Seconds the upload *before* this one took; an upload can't carry its own duration. 0 in a client's first round.
  public var uploadSeconds: Double
  /// The most memory the process held, in bytes.
  public var peakMemoryBytes: Int
  /// Memory that was free on the machine before training, in bytes; 0 where the system does not say.
  public var freeMemoryBytes: Int
  /// Tokens trained on in this round.
  public var tokens: Int

  public init(
    bytesDown: Int = 0, bytesUp: Int = 0, downloadSeconds: Double = 0, computeSeconds: Double = 0,
    uploadSeconds: Double = 0, peakMemoryBytes: Int = 0, freeMemoryBytes: Int = 0, tokens: Int = 0
  ) {
    self.bytesDown = bytesDown
    self.bytesUp = bytesUp
    self.downloadSeconds = downloadSeconds
    self.computeSeconds = computeSeconds
    self.uploadSeconds = uploadSeconds
    self.peakMemoryBytes = peakMemoryBytes
    self.freeMemoryBytes = freeMemoryBytes
    self.tokens = tokens
  }

  /// The first field that is negative or not a number, for a message; `nil` if all make sense.
  var implausibleField: String? {
    let integers = [
      ("bytesDown", bytesDown), ("bytesUp", bytesUp), ("peakMemoryBytes", peakMemoryBytes),
      ("freeMemoryBytes", freeMemoryBytes), ("tokens", tokens),
    ]
    if let (name, value) = integers.first(where: { $0.1 < 0 }) { return "\(name) = \(value)" }
    let seconds = [
      ("downloadSeconds", downloadSeconds), ("computeSeconds", computeSeconds),
      ("uploadSeconds", uploadSeconds),
    ]
    if let (name, value) = seconds.first(where: { !($0.1.isFinite && $0.1 >= 0) }) {
      return "\(name) = \(value)"
    }
    return nil
  }
}
