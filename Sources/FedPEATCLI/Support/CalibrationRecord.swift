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

    /// Whether it is of these settings and holds what a calibration of them would have written.
    func isSound(_ settings: String, _ levels: [String], _ rounds: Int) -> Bool {
      func isMeasured(_ value: Double, _ range: ClosedRange<Double>) -> Bool {
        range.contains(value)
      }
      guard formatVersion == Self.currentFormat, self.settings == settings else { return false }
      if let times {
        guard times.map(\.name) == levels,
          times.allSatisfy({ time in
            !time.all.isEmpty && time.all.allSatisfy { isMeasured($0, 1e-9...1e9) }
              && (1...1 << 50).contains(time.peakMemoryBytes)
          })
        else { return false }
      }
      return runs.values.allSatisfy { run in
        run.losses.count == rounds + 1 && run.losses.allSatisfy { isMeasured($0, -100...1000) }
          && [0, rounds].contains(run.fidelities.count)
          && run.fidelities.allSatisfy { isMeasured($0, -1.01...1.01) }
      }
    }
  }

  let url: URL
  private let content: Mutex<Content>

  /// Goes on with what an interrupted calibration of the same settings left; with none of others.
  ///
  /// - Parameters:
  ///   - out: the edge file.
  ///   - settings: names all that decides what is measured.
  ///   - levels: the emulators' recipes.
  ///   - rounds: of each federation.
  init(of out: URL, settings: String, levels: [String], rounds: Int) {
    url = out.appendingPathExtension("calibration")
    let left = try? JSONFile.read(Content.self, from: url)
    if let left, left.isSound(settings, levels, rounds) {
      content = Mutex(left)
      return
    }
    if left != nil {
      Terminal.note(
        "begins anew: what '\(url.relativePath)' holds was measured with other settings, or is damaged"
      )
    }
    content = Mutex(Content(settings: settings))
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
