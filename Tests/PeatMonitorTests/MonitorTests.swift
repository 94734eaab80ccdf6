import Foundation
import PeatFederation
import PeatMonitor
import PeatTensor
import TestSupport
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

@Suite("Page for operators") struct MonitorTests {
  @Test func `metrics are as Prometheus reads them`() {
    var text = PrometheusText()
    text.add("a_total", .counter, "What\nit is.", [(["b": "x\"y\\z", "a": "1"], 3), ([:], 0.5)])
    text.add("b", .gauge, "None.", [:], nil)
    text.add("c", .gauge, "Not a number.", [:], .nan)
    #expect(
      text.text == """
        # HELP a_total What\\nit is.
        # TYPE a_total counter
        a_total{a="1",b="x\\"y\\\\z"} 3
        a_total 0.5
        # HELP c Not a number.
        # TYPE c gauge
        c NaN

        """)
  }

  private func get(_ path: String, port: Int) async throws -> (status: Int, text: String) {
    let url = try #require(URL(string: "http://127.0.0.1:\(port)/\(path)"))
    let (data, response) = try await URLSession.shared.data(from: url)
    return (
      try #require(response as? HTTPURLResponse).statusCode, String(decoding: data, as: UTF8.self)
    )
  }

  @Test func `a run is seen over HTTP, until its end`() async throws {
    try await withTemporaryFolder { folder in
      let store = MemoryBlobStore()
      let digest = await store.put(Data([1]))
      let coordinator = try await Coordinator(
        CoordinatorConfiguration(run: "seen", seed: 1, rules: RoundRules(rounds: 3)),
        adapter: ["a": Tensor([1, 2])],
        levels: [Package(files: [.init(name: "f", digest: digest, bytes: 1)])], store: store,
        workFolder: folder.appendingPathComponent("updates"))
      let (ports, port) = AsyncStream.makeStream(of: Int.self)
      let serving = Task {
        try await MonitorServer(host: "127.0.0.1", port: 0) { (await coordinator.status, 7) }
          .run { port.yield($0) }
      }
      var listening = ports.makeAsyncIterator()
      let bound = try #require(await listening.next())
      let metrics = try await get("metrics", port: bound)
      #expect(metrics.status == 200)
      for line in [
        "fedpeat_round{run=\"seen\"} 1", "fedpeat_rounds{run=\"seen\"} 3", "fedpeat_connections 7",
        "fedpeat_clients{run=\"seen\",state=\"present\"} 0", "fedpeat_run_ended{run=\"seen\"} 0",
      ] { #expect(metrics.text.contains("\n\(line)\n") || metrics.text.hasPrefix(line), "\(line)") }
      #expect(try await get("healthz", port: bound) == (200, "ok\n"))
      #expect(try await get("readyz", port: bound) == (200, "round 1 of 3\n"))
      #expect(try await get("other", port: bound).status == 404)
      await coordinator.cancel(reason: "The test is over.")
      #expect(try await get("readyz", port: bound).status == 503)
      serving.cancel()
      _ = await serving.result
    }
  }

  @Test func `connections without a request, or with half of one, are closed`() async throws {
    try await withTemporaryFolder { folder in
      let store = MemoryBlobStore()
      let digest = await store.put(Data([1]))
      let coordinator = try await Coordinator(
        CoordinatorConfiguration(run: "seen", seed: 1, rules: RoundRules(rounds: 3)),
        adapter: ["a": Tensor([1, 2])],
        levels: [Package(files: [.init(name: "f", digest: digest, bytes: 1)])], store: store,
        workFolder: folder.appendingPathComponent("updates"))
      let (ports, port) = AsyncStream.makeStream(of: Int.self)
      let serving = Task {
        try await MonitorServer(host: "127.0.0.1", port: 0, patience: .seconds(1)) {
          (await coordinator.status, 7)
        }.run { port.yield($0) }
      }
      var listening = ports.makeAsyncIterator()
      let bound = try #require(await listening.next())
      let silent = try RawConnection(port: bound)
      let halting = try RawConnection(port: bound)
      halting.say("GET /metrics HTTP/1.1\r\nHost: a\r\n")
      let end = ContinuousClock.now + .seconds(60)
      while !(silent.isClosed && halting.isClosed), ContinuousClock.now < end {
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(silent.isClosed && halting.isClosed)
      #expect(try await get("healthz", port: bound) == (200, "ok\n"))
      serving.cancel()
      _ = await serving.result
    }
  }

  @Test func `a port that is taken is an error that says so`() async throws {
    let (ports, port) = AsyncStream.makeStream(of: Int.self)
    try await withTemporaryFolder { folder in
      let store = MemoryBlobStore()
      let digest = await store.put(Data([1]))
      let coordinator = try await Coordinator(
        CoordinatorConfiguration(run: "seen", seed: 1, rules: RoundRules(rounds: 1)),
        adapter: ["a": Tensor([1])],
        levels: [Package(files: [.init(name: "f", digest: digest, bytes: 1)])], store: store,
        workFolder: folder.appendingPathComponent("updates"))
      let first = Task {
        try await MonitorServer(host: "127.0.0.1", port: 0) { (await coordinator.status, 0) }
          .run { port.yield($0) }
      }
      var listening = ports.makeAsyncIterator()
      let bound = try #require(await listening.next())
      let error = await #expect(throws: PeatError.self) {
        try await MonitorServer(host: "127.0.0.1", port: bound) { (await coordinator.status, 0) }
          .run()
      }
      #expect(error?.message.contains("in use") == true)
      first.cancel()
      _ = await first.result
    }
  }
}
