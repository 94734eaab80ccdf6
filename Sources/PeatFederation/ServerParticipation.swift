import PeatTensor

/// The coordinator's own part in the training, with the uncompressed middle and its own data.
public struct ServerParticipation: Sendable {
  /// The server's share `W` in the next adapter, 0 ≤ W < 1.
  public let weight: Double
  /// Tunes the same adapter as the clients do, through the full model.
  public let trainer: any LocalTrainer

  /// Throws where the weight lies outside of 0..<1.
  public init(weight: Double, trainer: any LocalTrainer) throws {
    guard weight >= 0, weight < 1 else {
      throw PeatError.usage(
        "The server's weight is \(weight); it must be at least 0 and below 1. With 0 the server "
          + "changes nothing, with 0.5 it counts as much as all clients together.")
    }
    self.weight = weight
    self.trainer = trainer
  }
}

/// `(1 − W)·clients + W·server`, in float64, rounded once; with `W = 0` exactly `clients`.
///
/// Throws where the server's adapter has other names or shapes, or a value that is not finite.
public func mixing(
  _ clients: NamedTensors, with server: NamedTensors, weight: Double
) throws -> NamedTensors {
  precondition(weight >= 0 && weight < 1, "mixing: weight \(weight) outside of 0..<1")
  if weight == 0 { return clients }
  guard clients.count == server.count else {
    throw PeatError.badData(
      "The server's adapter has \(server.count) tensors, the clients' has \(clients.count).")
  }
  var result: NamedTensors = [:]
  for (name, tensor) in clients {
    guard let other = server[name], other.shape == tensor.shape, other.isFinite else {
      throw PeatError.badData(
        "The server's adapter does not fit the clients' in '\(name)': shape "
          + "\(server[name].map { "\($0.shape)" } ?? "none") beside \(tensor.shape), or a value "
          + "that is not finite. Check the server's learning rate and data.")
    }
    result[name] = tensor.withUnsafeBufferPointer { a in
      other.withUnsafeBufferPointer { b in
        Tensor(
          a.indices.map { Float((1 - weight) * Double(a[$0]) + weight * Double(b[$0])) },
          shape: tensor.shape)
      }
    }
  }
  return result
}
