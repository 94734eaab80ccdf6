import ArgumentParser
import FedPEAT
import Foundation

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what this machine has, what is missing, and how to mend it.",
    discussion: """
      Example: fedpeat doctor --listen 0.0.0.0:50051 --ca authority --store result.runs

      Of a coordinator: whether the address is free, certificates hold, there is room where runs are kept, and the clock agrees with what it was. \
      Of a device: fedpeat doctor --folder work

      Ends with 69 where something is missing.
      """)

  @OptionGroup var federation: FederationChecks

  @OptionGroup var common: CommonOptions

  struct Check: Encodable {
    var name: String
    /// `ok`, `warning` or `missing`.
    var status: String
    var found: String
    /// What to do; null where all is well.
    var advice: String?

    private enum CodingKeys: String, CodingKey { case name, status, found, advice }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(status, forKey: .status)
      try container.encode(found, forKey: .found)
      try container.encode(advice, forKey: .advice)
    }
  }

  struct Report: Encodable { var checks: [Check] }

  func run() async throws {
    let checks =
      [
        processor(), kernels(), cores(), memory(),
        Self.disk(FileManager.default.temporaryDirectory, orElse: "set TMPDIR to"), matrixProduct(),
        loopback(),
      ] + (try await federation.checks()) + [python()]
    let text = checks.map { check in
      let mark = ["ok": "ok     ", "warning": "warning"][check.status] ?? "missing"
      return "\(mark)  \(check.name): \(check.found)"
        + (check.advice.map { "\n         → \($0)" } ?? "")
    }.joined(separator: "\n")
    try common.report(Report(checks: checks), text: text)
    let missing = checks.filter { $0.status == "missing" }.map(\.name)
    guard missing.isEmpty else {
      throw PeatError.unavailable(
        "Not all is well: \(missing.joined(separator: ", ")). What was found stands above.")
    }
  }

  private func processor() -> Check {
    let flags = Processor.features
    let fast = flags.contains("avx2") && flags.contains("fma")
    return Check(
      name: "processor", status: fast || flags.isEmpty ? "ok" : "warning",
      found: Processor.name + (fast ? " with AVX2 and FMA" : " without AVX2 and FMA"),
      advice: fast || flags.isEmpty
        ? nil : "The portable kernels are used; expect a fraction of the speed.")
  }

  private func kernels() -> Check {
    let faster = Processor.fasterKernels
    return Check(
      name: "kernels", status: faster == nil ? "ok" : "warning", found: Processor.kernels,
      advice: faster.map {
        "This processor can run faster ones: build again with FEDPEAT_KERNELS=\($0), or let ./fedpeat choose."
      })
  }

  private func cores() -> Check {
    let count = ProcessInfo.processInfo.activeProcessorCount
    return Check(
      name: "cores", status: count > 1 ? "ok" : "warning", found: "\(count)",
      advice: count > 1 ? nil : "The demo wants two cores; it will take about twice as long.")
  }

  private func memory() -> Check {
    guard let free = ProcessMeasurement.freeMemoryBytes else {
      return Check(name: "memory", status: "ok", found: "not stated by the system")
    }
    let enough = free > 1_000_000_000
    return Check(
      name: "memory", status: enough ? "ok" : "warning", found: "\(Format.bytes(free)) free",
      advice: enough ? nil : "Close other programs, or tune smaller models with --checkpointing.")
  }

  /// The room in a folder, or where it will be made.
  ///
  /// - Parameter orElse: how else it may be mended, before "a folder on a larger disk".
  static func disk(_ folder: URL, named name: String = "disk", orElse: String) -> Check {
    var place = folder.standardizedFileURL
    while !FileManager.default.fileExists(atPath: place.path), place.path != "/" {
      place.deleteLastPathComponent()
    }
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: place.path)
    let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue ?? 0
    let enough = free > 1_000_000_000
    guard place.isFolder else {
      return Check(
        name: name, status: "missing", found: "\(place.path) is a file, not a folder",
        advice: "Move it away, or \(orElse) a folder.")
    }
    // A try says more than rights do.
    let probe = place.appendingPathComponent(".fedpeat-doctor-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: probe) }
    do { try Data(repeating: 1, count: 4096).write(to: probe) } catch {
      return Check(
        name: name, status: "missing",
        found: "nothing can be written in \(place.path): \(error.localizedDescription)",
        advice: "Change the rights of that folder, free some space, or \(orElse) another.")
    }
    return Check(
      name: name, status: enough ? "ok" : "warning",
      found: "\(Format.bytes(free)) free in \(place.path)",
      advice: enough ? nil : "Free some space, or \(orElse) a folder on a larger disk.")
  }

  private func matrixProduct() -> Check {
    let speed = PeakMeasurement.gigaflops(threads: 1, seconds: 0.2)
    return Check(
      name: "matrix products", status: speed > 1 ? "ok" : "warning",
      found: "\(Format.number(speed, digits: 0)) GFLOP/s on one thread",
      advice: speed > 1 ? nil : "The BLAS library is very slow; install libopenblas-dev.")
  }

  private func loopback() -> Check {
    let works = Loopback.canListen
    return Check(
      name: "network", status: works ? "ok" : "missing",
      found: works ? "a server can listen on 127.0.0.1" : "no server can listen on 127.0.0.1",
      advice: works
        ? nil
        : "Federations over gRPC need loopback; check the firewall or the container's settings.")
  }

  private func python() -> Check {
    let paths = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    let found = paths.map { "\($0)/python3" }.first {
      FileManager.default.isExecutableFile(atPath: $0)
    }
    return Check(
      name: "python (optional)", status: "ok",
      found: found ?? "not found; only needed to run peers and to make golden files")
  }
}
