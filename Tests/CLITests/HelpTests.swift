import Foundation
import TestSupport
import Testing

@Suite("Help") struct HelpTests {
  @Test(arguments: verbs) func `each verb's help has an example`(verb: String) async throws {
    try await withTemporaryFolder { folder in
      let result = try await FedpeatCommand.succeed([verb, "--help"], in: folder)
      #expect(result.output.contains("Example"))
      #expect(result.output.contains("fedpeat \(verb)"))
      #expect(result.errors.isEmpty)
      for flag in ["--json", "--quiet", "--seed", "--threads"] {
        #expect(result.output.contains(flag), "\(flag)")
      }
    }
  }

  @Test func `the program's help names every verb`() async throws {
    try await withTemporaryFolder { folder in
      let result = try await FedpeatCommand.succeed(["--help"], in: folder)
      for verb in verbs { #expect(result.output.contains("\n  \(verb) ")) }
      let version = try await FedpeatCommand.succeed(["--version"], in: folder)
      #expect(version.output.contains("."))
    }
  }
}
