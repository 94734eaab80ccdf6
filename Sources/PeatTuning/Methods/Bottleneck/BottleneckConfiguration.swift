import PeatNN
import PeatTensor

/// What bottleneck adapters consist of.
public struct BottleneckConfiguration: Sendable, Codable, Equatable {
  /// m: values between an adapter's two layers.
  public var size: Int
  /// The function between them.
  public var activation: BottleneckAdapter.Activation

  enum CodingKeys: String, CodingKey, CaseIterable {
    case size
    case activation
  }

  /// Throws where the size makes no sense.
  public init(size: Int = 64, activation: BottleneckAdapter.Activation = .relu) throws {
    self.size = size
    self.activation = activation
    guard size > 0, size <= 1 << 16 else {
      throw PeatError.usage(
        "A bottleneck of \(size) makes no sense; it is at least 1, often 64, and at most 65536.")
    }
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    try self.init(
      size: try container.decode(Int.self, forKey: .size),
      activation: try container.decode(BottleneckAdapter.Activation.self, forKey: .activation))
  }
}
