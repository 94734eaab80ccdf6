import ArgumentParser
import FedPEAT
import Foundation

struct Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check where a released adapter comes from.",
    discussion: """
      Example: fedpeat verify result --trust authority/ca.pem

      Checks lineage.json beside the adapter: that the adapter is the one it is of, the coordinator's signature, and each client's signature of \
      its updates. With --trust the coordinator's certificate must come from that authority. What does not hold ends with code 65.
      """)

  @Argument(help: "An adapter that a run released: its folder, or its name on the Hub.")
  var adapter: String

  @Option(
    help:
      "A PEM file of the authorities that the coordinator's certificate must come from; not asked if not given."
  )
  var trust: String?

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let check = try LineageCheck(URL(adapter: adapter), trust: trust.map { URL(path: $0) })
    func number(_ value: Double?) -> String { value.map { Format.number($0) } ?? "not measured" }
    try common.report(
      check,
      text: Format.table([
        ["adapter", "\(check.adapter.short)…, as its lineage says"],
        ["run", "\(check.run), round \(check.round)"],
        ["model", "\(check.sourceDigest.short)…"],
        [
          "updates",
          "\(check.updates) of \(check.clients) clients in \(check.rounds) rounds, \(check.signedUpdates) signed and right",
        ],
        ["as it came", number(check.zeroShot)], ["with the adapter", number(check.plugIn)],
        ["gate", check.gate.rawValue],
        [
          "signed by",
          check.signer.map {
            $0
              + (check.isTrusted
                ? ", which the authority vouches for" : ", of an authority that was not asked for")
          } ?? "nobody: the coordinator had no certificate",
        ],
      ]))
  }
}
