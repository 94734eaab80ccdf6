import Foundation
import TestSupport
import Testing

@Suite("Help") struct HelpTests {
  /// The verbs of one verb.
  private static let inner = [
    "ca init", "ca issue", "ca revoke", "ca token", "ca list", "runs list", "runs show",
    "runs resume", "runs export", "runs rollback", "runs verify", "runs delete",
  ]

  @Test(arguments: verbs + inner)
  func `each verb's help has an example`(verb: String) async throws {
    try await withTemporaryFolder { folder in
      let words = verb.split(separator: " ").map(String.init)
      let result = try await FedpeatCommand.succeed(words + ["--help"], in: folder)
      #expect(result.output.contains("Example"))
      #expect(result.output.contains("fedpeat \(verb)"))
      #expect(result.errors.isEmpty)
      for flag in ["--json", "--quiet", "--seed", "--threads"] {
        #expect(result.output.contains(flag), "\(flag)")
      }
    }
  }

  @Test(arguments: verbs + inner) func `help says what happens where an option is not given`(
    verb: String
  ) async throws {
    try await withTemporaryFolder { folder in
      let command = verb.split(separator: " ").map(String.init)
      let help = try await FedpeatCommand.succeed(command + ["--help"], in: folder).output
      let usage = try #require(help.firstRange(of: "USAGE:"))
      let options = try #require(help.firstRange(of: "\nOPTIONS:\n"))
      let words = help[usage.upperBound..<options.lowerBound].split(whereSeparator: \.isWhitespace)
      let needed = Set(words.filter { $0.hasPrefix("--") })
      // An option's explanation goes on until the next one begins.
      for option in help[help.index(before: options.upperBound)...].split(separator: "\n  --")
      where option.contains("<") {
        let text = option.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        let name = "--" + text.prefix { $0 != " " }
        let says = ["default: ", "not given", "neither is given"].contains { text.contains($0) }
        #expect(says != needed.contains { $0 == name }, "\(name): \(text)")
      }
    }
  }

  @Test func `the program's help names every verb`() async throws {
    try await withTemporaryFolder { folder in
      let result = try await FedpeatCommand.succeed(["--help"], in: folder)
      for verb in verbs + ["ca", "runs"] { #expect(result.output.contains("\n  \(verb) ")) }
      let version = try await FedpeatCommand.succeed(["--version"], in: folder)
      #expect(version.output.contains("."))
    }
  }
}
