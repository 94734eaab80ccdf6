import Foundation
import PeatFederation
import PeatGRPC
import PeatTensor
import Testing

@Suite("NetworkAddress") struct NetworkAddressTests {
  @Test func `reads hosts and ports`() throws {
    #expect(try NetworkAddress("127.0.0.1:80") == NetworkAddress(host: "127.0.0.1", port: 80))
    #expect(try NetworkAddress("lab.example:50051").host == "lab.example")
    #expect(try NetworkAddress("[::1]:7") == NetworkAddress(host: "::1", port: 7))
    #expect(NetworkAddress(host: "::1", port: 7).description == "[::1]:7")
  }

  @Test(arguments: ["", "host", "host:", ":80", "host:-1", "host:70000", "host:x", "::1:80"])
  func `refuses what is none`(text: String) {
    let error = #expect(throws: PeatError.self) { try NetworkAddress(text) }
    #expect(error?.code == .usage)
  }
}

@Suite("CoordinatorServer", .timeLimit(.minutes(10))) struct CoordinatorServerTests {
  @Test func `a host name is not an address to listen on`() {
    #expect(throws: PeatError.self) {
      try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "lab.example", port: 0), security: .plaintext)
    }
  }

  @Test(arguments: ["127.0.0.1", "localhost"])
  func `chooses a port and says which`(host: String) async throws {
    let server = try CoordinatorServer(
      FakeEndpoint(), at: NetworkAddress(host: host, port: 0), security: .plaintext)
    let address = try await server.start()
    #expect(address.port > 0)
    let connection = try GRPCConnection(
      to: NetworkAddress(host: host, port: address.port), security: .plaintext)
    #expect(try await connection.join(JoinRequest(client: "a")).run == "fake")

    let second = try CoordinatorServer(FakeEndpoint(), at: address, security: .plaintext)
    let error = await #expect(throws: PeatError.self) { try await second.start() }
    #expect(error?.code == .unavailable)
    #expect(error?.message.contains("\(address.port)") == true)

    await connection.close()
    await #expect(throws: PeatError.self) { try await connection.join(JoinRequest(client: "a")) }
    await server.stop()
  }

  @Test func `a port where nobody listens is unavailable`() async throws {
    let server = try CoordinatorServer(
      FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext)
    let address = try await server.start()
    await server.stop()
    let connection = try GRPCConnection(to: address, security: .plaintext)
    let error = await #expect(throws: PeatError.self) {
      try await connection.join(JoinRequest(client: "a"))
    }
    #expect(error?.code == .unavailable)
    await connection.close()
  }

  @Test func `a coordinator that comes back is found again`() async throws {
    let first = try CoordinatorServer(
      FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext)
    let address = try await first.start()
    let connection = try GRPCConnection(to: address, security: .plaintext)
    _ = try await connection.join(JoinRequest(client: "a"))
    await first.stop(grace: .zero)
    await #expect(throws: PeatError.self) { try await connection.join(JoinRequest(client: "a")) }
    let second = try CoordinatorServer(FakeEndpoint(), at: address, security: .plaintext)
    _ = try await second.start()
    try await eventually("it is reached") {
      (try? await connection.join(JoinRequest(client: "a"))) != nil
    }
    await connection.close()
    await second.stop()
  }

  @Test func `stops while calls keep coming`() async throws {
    for _ in 0..<20 {
      let server = try CoordinatorServer(
        FakeEndpoint(), at: NetworkAddress(host: "127.0.0.1", port: 0), security: .plaintext)
      let address = try await server.start()
      let callers = (0..<8).map { _ in
        Task {
          let connection = try GRPCConnection(to: address, security: .plaintext)
          // Until the server is gone, many calls at once, so that some have just arrived when it stops.
          let calls = (0..<16).map { _ in
            Task {
              while (try? await connection.join(JoinRequest(client: "a"))) != nil {}
            }
          }
          for call in calls { await call.value }
          await connection.close()
        }
      }
      try await Task.sleep(for: .milliseconds(30))
      await server.stop(grace: .zero)
      for caller in callers { try await caller.value }
    }
  }
}
