import FedPEAT
import Foundation
import Synchronization

/// What a calibration has measured so far, in a file beside the edge file, so that an interrupted one goes on with the same command.
final class CalibrationRecord: Sendable {
  /// What training on a level took, measured several times.
  struct StepTimes: Codable {
    var name: String
    /// Of a round's training, each time.
    var all: [Double] = []
    var peakMemoryBytes = 0

    var seconds: Double { median(all) }

    /// How far the times lie apart, as a share of their median.
    var spread: Double { ((all.max() ?? 0) - (all.min() ?? 0)) / max(seconds, 1e-12) }

    /// That they lie far apart; `nil` where they don't.
    var caution: String? {
      guard spread > 0.2, let least = all.min(), let most = all.max() else { return nil }
      return
        "A round's training on \(name) took \(Format.seconds(least)) at one time and \(Format.seconds(most)) at another, \(Format.share(spread)) apart: this machine was busy with something else. Times and energy are known no better than that; measure again when it is idle."
    }
  }

  private struct Content: Codable {
    static let currentFormat = 1
    var formatVersion = currentFormat
    /// Of all that decides what is measured.
    var settings: String
    var times: [StepTimes]?
    var runs: [String: Calibration.ShortRun] = [:]
  }

  let url: URL
  private let content: Mutex<Content>

  /// Goes on with what an interrupted calibration of the same settings left; with none of others.
  ///
  /// - Parameters:
  ///   - out: the edge file.
  ///   - settings: names all that decides what is measured.
  init(of out: URL, settings: String) {
    url = out.appendingPathExtension("calibration")
    let left = try? JSONFile.read(Content.self, from: url)
    let isOurs =
      left?.formatVersion == Content.currentFormat && left?.settings == settings
    content = Mutex(isOurs ? left ?? Content(settings: settings) : Content(settings: settings))
  }

  /// Throws `inputOutput` where something else lies in the record's place.
  static func check(of out: URL) throws {
    let url = out.appendingPathExtension("calibration")
    try AtomicOutput.checkFile(url, "calibration record") {
      (try? JSONFile.read(Content.self, from: $0)) != nil
    }
  }

  var isEmpty: Bool { content.withLock { $0.times == nil && $0.runs.isEmpty } }
  var federations: Int { content.withLock { $0.runs.count } }

  /// Step times, where all levels were measured.
  var times: [StepTimes]? { content.withLock { $0.times } }

  func keep(_ times: [StepTimes]) throws {
    try change { $0.times = times }
  }

  func run(_ name: String) -> Calibration.ShortRun? { content.withLock { $0.runs[name] } }

  func keep(_ run: Calibration.ShortRun, as name: String) throws {
    try change { $0.runs[name] = run }
  }

  private func change(_ body: (inout Content) -> Void) throws {
    let data = try content.withLock { content in
      body(&content)
      return try JSONFile.encode(content)
    }
    try AtomicOutput.write(data, to: url)
  }

  /// The edge file is written: nothing is left to go on with.
  func remove() { try? FileManager.default.removeItem(at: url) }
}
