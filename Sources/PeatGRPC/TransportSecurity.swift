import PeatFederation
import PeatTensor

/// How the connection between client and coordinator is protected.
public enum TransportSecurity: Sendable, Equatable {
  /// Not at all: for one machine, or a network that is protected otherwise.
  case plaintext
}

/// Where a coordinator listens, or is reached.
public struct NetworkAddress: Sendable, Hashable, CustomStringConvertible {
  public var host: String
  public var port: Int

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Reads "host:port" or "[IPv6]:port".
  public init(_ text: String) throws {
    let problem = PeatError.usage(
      "'\(text)' is not an address. Write host:port, for example 127.0.0.1:50051.")
    guard let colon = text.lastIndex(of: ":"),
      let port = Int(text[text.index(after: colon)...]), (0...65535).contains(port)
    else { throw problem }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = String(host.dropFirst().dropLast())
    } else if host.contains(":") {
      throw problem
    }
    guard !host.isEmpty else { throw problem }
    self.init(host: host, port: port)
  }

  /// Whether the host stands for this machine alone.
  public var isLoopback: Bool {
    host == "localhost" || host == "::1" || host.hasPrefix("127.")
  }

  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
