import ArgumentParser
import FedPEAT
import Foundation

/// Where clients' texts come from, for verbs that have them all here.
struct ClientDataOptions: ParsableArguments {
  @Option(help: "The clients' texts; the run file's if not given.")
  var data: String?

  @Option(
    help: "The field that says whose a document is; they are dealt out at random if not given.")
  var clientsBy: String?

  @Option(
    help:
      "Another way to divide them: \(PartitionRule.words.joined(separator: ", ")); by --clients-by if not given."
  )
  var partition: String?

  @Option(
    help: ArgumentHelp(
      "What is done to the clients' pictures, in turn, such as none,rotate=90,invert: \(PictureTransform.words.joined(separator: ", ")), or several joined by +; nothing if not given.",
      valueName: "words"))
  var clientTransforms: String?

  @Option(help: "How many clients. (default: \(RunConfiguration().clients))")
  var clients: Int?

  /// The keys that were given.
  var overrides: [String: JSONValue] {
    var table: [String: JSONValue] = [:]
    if let data { table["data"] = .string(URL(path: data).path) }
    if let clientsBy { table["clientsBy"] = .string(clientsBy) }
    if let partition { table["partition"] = .string(partition) }
    // One way to divide them takes the place of the run file's other; two flags must agree.
    if clientsBy != nil, partition == nil { table["partition"] = .null }
    if partition != nil, clientsBy == nil { table["clientsBy"] = .null }
    if let clientTransforms {
      table["clientTransforms"] = .array(
        clientTransforms.split(separator: ",", omittingEmptySubsequences: false).map {
          .string(String($0))
        })
    }
    if let clients { table["clients"] = .integer(clients) }
    return table
  }
}
