import FedPEAT

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Where this machine lets a program listen.
enum Loopback {
  /// Whether it does on 127.0.0.1.
  static var canListen: Bool {
    problem(listeningOn: NetworkAddress(host: "127.0.0.1", port: 0)) == nil
  }

  /// Why a program can't listen on an address, and what to do; `nil` where it can. "localhost" is 127.0.0.1.
  static func problem(
    listeningOn address: NetworkAddress
  ) -> (found: String, advice: String)? {
    let code = address.host.contains(":") ? listen6(address) : listen4(address)
    switch code {
    case 0: return nil
    case EADDRINUSE:
      return (
        "another program listens there", "Stop it, or choose another port (--listen HOST:PORT)."
      )
    case EACCES, EPERM:
      return (
        "this user may not listen there",
        "Choose a port from 1024 on, or give the program the right to."
      )
    case EADDRNOTAVAIL:
      return (
        "this machine has no such address",
        "Listen on 0.0.0.0 for all of its addresses, or on 127.0.0.1 for this machine alone."
      )
    default: return (String(cString: strerror(code)), "Choose another address.")
    }
  }

  /// The error's number; 0 where it works.
  private static func listen4(_ address: NetworkAddress) -> Int32 {
    var own = sockaddr_in()
    own.sin_family = sa_family_t(AF_INET)
    own.sin_port = in_port_t(UInt16(clamping: address.port).bigEndian)
    let host = address.host == "localhost" ? "127.0.0.1" : address.host
    guard inet_pton(AF_INET, host, &own.sin_addr) == 1 else { return EADDRNOTAVAIL }
    return listen(AF_INET, &own)
  }

  private static func listen6(_ address: NetworkAddress) -> Int32 {
    var own = sockaddr_in6()
    own.sin6_family = sa_family_t(AF_INET6)
    own.sin6_port = in_port_t(UInt16(clamping: address.port).bigEndian)
    guard inet_pton(AF_INET6, address.host, &own.sin6_addr) == 1 else { return EADDRNOTAVAIL }
    return listen(AF_INET6, &own)
  }

  private static func listen<Address>(_ family: Int32, _ address: inout Address) -> Int32 {
    #if canImport(Glibc)
      let kind = Int32(SOCK_STREAM.rawValue)
    #else
      let kind = SOCK_STREAM
    #endif
    let descriptor = socket(family, kind, 0)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    // As a server does: one that has just ended does not count.
    var yes: Int32 = 1
    setsockopt(
      descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    let size = socklen_t(MemoryLayout<Address>.size)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
    }
    guard bound == 0, Self.listen(descriptor, 1) == 0 else { return errno }
    return 0
  }

  private static func listen(_ descriptor: Int32, _ backlog: Int32) -> Int32 {
    #if canImport(Glibc)
      Glibc.listen(descriptor, backlog)
    #else
      Darwin.listen(descriptor, backlog)
    #endif
  }
}
