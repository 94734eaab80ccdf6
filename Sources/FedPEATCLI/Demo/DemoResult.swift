import FedPEAT
import Foundation

/// What the demo showed.
struct DemoResult: Encodable {
  struct Client: Codable {
    var client: String
    var updates: Int
    var bytesUp: Int
    var bytesDown: Int
    var peakMemoryBytes: Int
  }

  var model: String
  var fiveNumbers: FiveNumbers
  var recoveredShare: Double?
  var margin: Double?
  var rounds: Int
  var clients: [Client]
  var bytesUp: Int
  var bytesDown: Int
  var fullModelBytes: Int
  var exposure: Double
  /// Steps of each comparison on the pooled texts; the clients together make as many each.
  var comparisonSteps: Int
  var coordinatorPeakMemoryBytes: Int
  var adapterParameters: Int
  var seconds: Double
  var pretraining: Pretraining.Report?

  init(
    _ summary: RunResult.Summary, _ numbers: FiveNumbers, _ clients: [Client], _ stage: DemoStage
  ) {
    model = stage.modelStory
    fiveNumbers = numbers
    recoveredShare = numbers.recoveredShare
    margin = numbers.margin
    rounds = summary.rounds
    self.clients = clients
    bytesUp = summary.bytesUp
    bytesDown = summary.bytesDown
    fullModelBytes = summary.fullModelBytes
    exposure = summary.exposure
    comparisonSteps = stage.configuration.comparisonStepCount
    coordinatorPeakMemoryBytes = summary.peakMemoryBytes
    adapterParameters = summary.adapterParameters
    seconds = summary.seconds
    pretraining = stage.pretraining
  }

  func text(_ stage: DemoStage) -> String {
    var text = "\n" + fiveNumbers.table + "\n"
    if let share = recoveredShare {
      text += """

        Plug-in reaches \(Format.percent(share)) of what tuning all of the model on the pooled texts gains (in log-perplexity).
        Each tuning on the pooled texts made \(comparisonSteps) steps, as many as each of the \(clients.count) clients.
        No text left its client. Devices saw \(Format.percent(exposure)) of the middle of the model.

        """
    }
    var rows = [["process", "down", "up", "peak memory"]]
    rows.append(["coordinator", "", "", Format.bytes(coordinatorPeakMemoryBytes)])
    for client in clients {
      rows.append([
        client.client, Format.bytes(client.bytesDown), Format.bytes(client.bytesUp),
        Format.bytes(client.peakMemoryBytes),
      ])
    }
    text += "\n" + Format.table(rows)
    let perRound = clients.map { $0.bytesUp / max($0.updates, 1) }.min() ?? 0
    text += """


      down: the emulator once, and the adapter (\(Format.count(adapterParameters)) parameters) each round; up: the tuned adapter.
      One round costs a client \(Format.bytes(perRound)) up; sending the full model's weights would be \(Format.bytes(fullModelBytes)).
      """
    return text
  }
}
