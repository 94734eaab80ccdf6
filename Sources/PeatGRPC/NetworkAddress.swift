import NIOCore
import PeatTensor

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

  /// By which names and addresses a coordinator that listens here is reached on this machine and in its network: what its certificate
  /// is for.
  public var reachableHosts: [String] {
    var hosts = ["localhost", "127.0.0.1", "::1"]
    if host == "0.0.0.0" || host == "::" {
      let devices = (try? System.enumerateDevices()) ?? []
      hosts += devices.compactMap { $0.address?.ipAddress }.map(Self.withoutZone)
    } else {
      hosts.append(host)
    }
    return hosts.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }

  private static func withoutZone(_ address: String) -> String {
    address.split(separator: "%").first.map(String.init) ?? address
  }

  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
