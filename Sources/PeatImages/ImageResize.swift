import Foundation
import PeatTensor

/// How values between pixels are found.
public enum ResizeFilter: Int, Sendable, Codable {
  /// Numbered as Pillow does, and so as `resample` of a preprocessor_config.json.
  case bilinear = 2
  case bicubic = 3

  /// How far a pixel reaches.
  fileprivate var support: Double { self == .bilinear ? 1 : 2 }

  fileprivate func weight(at distance: Double) -> Double {
    let x = abs(distance)
    switch self {
    case .bilinear: return x < 1 ? 1 - x : 0
    case .bicubic:
      // Keys' kernel with a = −1/2.
      let a = -0.5
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
      return 0
    }
  }
}

extension PixelImage {
  /// The same picture in another size, columns first and then rows; made smaller, each pixel is a mean over all that it covers.
  ///
  /// Equal to Pillow's `resize` byte by byte: weights in fixed point with 22 bits, rounded to 8 bits after each direction.
  ///
  /// Source: Pillow, `src/libImaging/Resample.c`, <https://github.com/python-pillow/Pillow>.
  public func resized(width newWidth: Int, height newHeight: Int, _ filter: ResizeFilter)
    -> PixelImage
  {
    precondition(newWidth > 0 && newHeight > 0, "resized to \(newWidth) × \(newHeight)")
    var result = bytes
    if newWidth != width {
      let weights = ResizeWeights(from: width, to: newWidth, filter)
      result = weights.applied(
        to: result, lines: height, lineStep: width * channels, newLineStep: newWidth * channels,
        step: channels, lanes: channels)
    }
    if newHeight != height {
      let weights = ResizeWeights(from: height, to: newHeight, filter)
      let row = newWidth * channels
      result = weights.applied(
        to: result, lines: 1, lineStep: height * row, newLineStep: newHeight * row, step: row,
        lanes: row)
    }
    return PixelImage(width: newWidth, height: newHeight, channels: channels, bytes: result)
  }
}

/// For each new place along a line: where its old ones begin, and their weights.
private struct ResizeWeights {
  private static let precision = 22

  private let firsts: [Int]
  private let weights: [[Int]]

  init(from old: Int, to new: Int, _ filter: ResizeFilter) {
    let scale = Double(old) / Double(new)
    let stretch = max(scale, 1)
    let support = filter.support * stretch
    var firsts: [Int] = []
    var weights: [[Int]] = []
    for place in 0..<new {
      let center = (Double(place) + 0.5) * scale
      let first = max(Int(center - support + 0.5), 0)
      let end = min(Int(center + support + 0.5), old)
      let exact = (first..<end).map { filter.weight(at: (Double($0) - center + 0.5) / stretch) }
      let sum = exact.reduce(0, +)
      firsts.append(first)
      weights.append(
        exact.map { weight in
          let value = (sum == 0 ? weight : weight / sum) * Double(1 << ResizeWeights.precision)
          return Int(value < 0 ? value - 0.5 : value + 0.5)
        })
    }
    self.firsts = firsts
    self.weights = weights
  }

  /// Every line with its places weighted; `lanes` neighbours at each place are treated alike.
  func applied(
    to bytes: [UInt8], lines: Int, lineStep: Int, newLineStep: Int, step: Int, lanes: Int
  ) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: lines * newLineStep)
    for line in 0..<lines {
      for place in firsts.indices {
        for lane in 0..<lanes {
          var sum = 1 << (ResizeWeights.precision - 1)
          var source = line * lineStep + firsts[place] * step + lane
          for weight in weights[place] {
            sum += Int(bytes[source]) * weight
            source += step
          }
          result[line * newLineStep + place * step + lane] = UInt8(
            clamping: sum >> ResizeWeights.precision)
        }
      }
    }
    return result
  }
}
