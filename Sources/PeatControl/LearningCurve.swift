import Foundation

/// How a controller learned, iteration by iteration, as a table and as a picture.
public struct LearningCurve: Sendable {
  public let reports: [SABPPO.Report]
  /// What others return on the same environment, by name: drawn as lines.
  public var marks: [(name: String, value: Double)] = []

  public init(_ reports: [SABPPO.Report]) { self.reports = reports }

  private static let header =
    "iteration,steps,meanReturn,policyLoss,valueLoss,entropy,divergence,clippedShare,explainedVariance\n"
  private static let opening = """
    <svg xmlns="http://www.w3.org/2000/svg" width="640" height="360" viewBox="0 0 640 360" \
    font-family="sans-serif" font-size="12">

    """
  private static let captions = ["rounds learned from", "mean return of an episode"]

  /// Whether a text is a table that `csv` gave, or a picture that `svg` gave; not any other.
  public static func isTable(_ text: String) -> Bool { text.hasPrefix(header) }
  public static func isPicture(_ text: String) -> Bool {
    text.hasPrefix(opening) && captions.allSatisfy { text.contains(">\($0)</text>") }
  }

  /// Comma-separated values with a line of names.
  public var csv: String {
    Self.header
      + reports.map { report in
        [
          "\(report.iteration)", "\(report.steps)", report.meanReturn.map { "\($0)" } ?? "",
          "\(report.policyLoss)", "\(report.valueLoss)", "\(report.entropy)",
          "\(report.divergence)", "\(report.clippedShare)", "\(report.explainedVariance)",
        ].joined(separator: ",") + "\n"
      }.joined()
  }

  /// The mean return over the rounds learned from.
  public var svg: String {
    let points = reports.compactMap { report in report.meanReturn.map { (report.steps, $0) } }
    let (width, height, left, bottom) = (640.0, 360.0, 60.0, 40.0)
    let values = points.map(\.1) + marks.map(\.value)
    let low = values.min() ?? 0
    let high = max(values.max() ?? 1, low + 1e-9)
    let last = Double(max(points.last?.0 ?? 1, 1))
    func x(_ steps: Double) -> Double { left + (width - left - 20) * steps / last }
    func y(_ value: Double) -> Double {
      height - bottom - (height - bottom - 20) * (value - low) / (high - low)
    }
    func number(_ value: Double) -> String { String(format: "%.1f", value) }
    func text(_ x: Double, _ y: Double, _ anchor: String, _ content: String) -> String {
      let safe = content.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(
        of: "<", with: "&lt;")
      return
        "<text x=\"\(number(x))\" y=\"\(number(y))\" text-anchor=\"\(anchor)\">\(safe)</text>\n"
    }
    var result = Self.opening
    result += """
      <rect width="640" height="360" fill="white"/>
      <path d="M\(number(left)) 20V\(number(height - bottom))H\(number(width - 20))" fill="none" stroke="black"/>

      """
    for share in stride(from: 0.0, through: 1, by: 0.25) {
      let value = low + share * (high - low)
      result += text(left - 6, y(value) + 4, "end", number(value))
      result += text(
        x(share * last), height - bottom + 18, "middle", "\(Int((share * last).rounded()))")
    }
    result += text(width / 2, height - 6, "middle", Self.captions[0])
    result += text(left, 14, "start", Self.captions[1])
    for mark in marks {
      result +=
        "<path d=\"M\(number(left)) \(number(y(mark.value)))H\(number(width - 20))\" stroke=\"gray\" stroke-dasharray=\"4 3\"/>\n"
      result += text(width - 22, y(mark.value) - 4, "end", mark.name)
    }
    let path = points.map { "\(number(x(Double($0.0)))),\(number(y($0.1)))" }.joined(separator: " ")
    return result
      + "<polyline points=\"\(path)\" fill=\"none\" stroke=\"#1f6fb2\" stroke-width=\"1.5\"/>\n</svg>\n"
  }
}
