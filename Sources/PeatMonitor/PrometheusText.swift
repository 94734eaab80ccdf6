import Foundation

/// Metrics as Prometheus reads them, in its text format 0.0.4.
///
/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
public struct PrometheusText: Sendable {
  public enum Kind: String, Sendable { case counter, gauge }

  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  public private(set) var text = ""

  public init() {}

  /// Adds a metric with one sample for each set of labels.
  ///
  /// - Parameters:
  ///   - name: letters, digits and `_`; of a counter it ends in `_total`.
  ///   - help: one line that says what it is, and its unit.
  ///   - samples: labels and values; where there is none, nothing is written.
  public mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ samples: [([String: String], Double)]
  ) {
    guard !samples.isEmpty else { return }
    text += "# HELP \(name) \(Self.escaped(help))\n# TYPE \(name) \(kind.rawValue)\n"
    for (labels, value) in samples {
      let shown = labels.sorted { $0.key < $1.key }.map {
        "\($0.key)=\"\(Self.escaped($0.value).replacingOccurrences(of: "\"", with: "\\\""))\""
      }
      text +=
        name + (shown.isEmpty ? "" : "{\(shown.joined(separator: ","))}")
        + " \(Self.number(value))\n"
    }
  }

  public mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ labels: [String: String], _ value: Double?
  ) {
    if let value { add(name, kind, help, [(labels, value)]) }
  }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\n", with: "\\n")
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded(), abs(value) < 1e15 { return String(Int(value)) }
    return "\(value)"
  }
}
