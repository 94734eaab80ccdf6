import Foundation
import TestSupport
import Testing

/// What is said to whom: cautions to all, progress to those who want it.
@Suite("What is said") struct SayingTests {
  @Test func `cautions are told in JSON, and to those who want no progress`() async throws {
    try await withWorkshop { workshop, folder in
      let adapter = workshop.adapter
      let result = try await FedpeatCommand.succeed(
        ["aggregate", adapter, adapter, "--out", "sum", "--json", "--quiet"], in: folder)
      let cautions = try #require(try result.object()["cautions"] as? [String])
      #expect(cautions.count == 1 && cautions[0].contains("named more than once"))
      #expect(result.errors.contains("caution      '\(adapter)' is named more than once"))
      let fine = try await FedpeatCommand.succeed(
        ["aggregate", adapter, "--out", "one", "--json", "--quiet"], in: folder)
      #expect(try fine.object()["cautions"] as? [String] == [] && fine.errors.isEmpty)
    }
  }

  @Test func `products have an error where there are some`() async throws {
    try await withWorkshop { workshop, folder in
      for (method, isThere) in [("lora", true), ("norm-tuning", false)] {
        try await FedpeatCommand.succeed(
          [
            "tune", workshop.emulator, "--data", workshop.text, "--steps", "1", "--batch", "2",
            "--method", method, "--update", "--out", method,
          ], in: folder)
        let text = try await FedpeatCommand.succeed(
          ["aggregate", method, "--out", "\(method)-sum"], in: folder
        ).output
        #expect(text.contains("error of products") == isThere, "\(text)")
      }
    }
  }

  @Test func `a round says how many updates were cut to the bound`() async throws {
    try await withWorkshop { workshop, folder in
      let run = [
        "simulate", workshop.runFile, "--strategy", "norm-bound", "--rounds", "1", "--norm-bound",
      ]
      let tight = try await FedpeatCommand.succeed(run + ["1e-6"], in: folder)
      #expect(tight.errors.contains("2 of 2 cut to the norm bound"), "\(tight)")
      let wide = try await FedpeatCommand.succeed(run + ["1e6"], in: folder)
      #expect(wide.errors.contains("0 of 2 cut to the norm bound"), "\(wide)")
    }
  }

  @Test func `models that can't be compared do not hide the others`() async throws {
    try await withTemporaryFolder { folder in
      let families = ProjectFolders.golden.appendingPathComponent("families")
      for name in ["llama", "bert"] {
        try FileManager.default.copyItem(
          at: families.appendingPathComponent(name), to: folder.appendingPathComponent(name))
      }
      try FileManager.default.copyItem(
        at: families.appendingPathComponent("llama"), to: folder.appendingPathComponent("bare"))
      try FileManager.default.removeItem(
        at: folder.appendingPathComponent("bare/reference.safetensors"))
      let result = try await FedpeatCommand.run(
        ["parity", "llama", "bare", "bert", "--json"], in: folder)
      let report = try result.object()
      #expect(
        (report["models"] as? [[String: Any]])?.map { $0["model"] as? String } == [
          "llama", "bert",
        ])
      let failures = try #require(report["failures"] as? [[String: String]])
      #expect(failures.map { $0["model"] } == ["bare"])
      #expect(failures[0]["reason"]?.contains("reference.safetensors") == true)
      #expect(report["agrees"] as? Bool == false)
      #expect(result.status == 74 && result.errors.contains("1 of 3 models"), "\(result)")
      #expect(try await FedpeatCommand.run(["parity", "bare"], in: folder).status == 74)
    }
  }
}
