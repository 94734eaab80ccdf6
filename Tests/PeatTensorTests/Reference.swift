import Foundation
import PeatTensor

/// The operations in double precision, by the formula and simple loops. Matrices are row-major.
enum Reference {
  static func rmsNorm(_ x: [Double], width: Int, weight: [Double], epsilon: Double) -> [Double] {
    rows(x, width) { row in
      let meanSquare = row.reduce(0) { $0 + $1 * $1 } / Double(width)
      return zip(row, weight).map { $0 / (meanSquare + epsilon).squareRoot() * $1 }
    }
  }

  static func layerNorm(
    _ x: [Double], width: Int, weight: [Double], bias: [Double], epsilon: Double
  ) -> [Double] {
    rows(x, width) { row in
      let mean = row.reduce(0, +) / Double(width)
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
      return row.indices.map {
        (row[$0] - mean) / (variance + epsilon).squareRoot() * weight[$0] + bias[$0]
      }
    }
  }

  static func gelu(_ x: [Double]) -> [Double] {
    x.map { $0 * 0.5 * (1 + erf($0 / 2.0.squareRoot())) }
  }

  static func geluTanh(_ x: [Double]) -> [Double] {
    x.map { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
  }

  static func swiGLU(gate: [Double], up: [Double]) -> [Double] {
    zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
  }

  /// `x · Wᵀ` with x `[N, inputs]`, W `[outputs, inputs]`.
  static func product(_ x: [Double], _ w: [Double], inputs: Int, outputs: Int) -> [Double] {
    var result: [Double] = []
    for row in 0..<x.count / inputs {
      for output in 0..<outputs {
        var sum = 0.0
        for i in 0..<inputs { sum += x[row * inputs + i] * w[output * inputs + i] }
        result.append(sum)
      }
    }
    return result
  }

  static func transposed(_ matrix: [Double], columns: Int) -> [Double] {
    let rows = matrix.count / columns
    return (0..<matrix.count).map { matrix[$0 % rows * columns + $0 / rows] }
  }

  static func rotary(
    _ x: [Double], headWidth: Int, heads: Int, length: Int, theta: Double, firstPosition: Int
  ) -> [Double] {
    var result = x
    let half = headWidth / 2
    for row in 0..<x.count / (heads * headWidth) {
      let position = Double(firstPosition + row % length)
      for head in 0..<heads {
        for i in 0..<half {
          let angle = position * pow(theta, -2 * Double(i) / Double(headWidth))
          let first = row * heads * headWidth + head * headWidth + i
          result[first] = x[first] * cos(angle) - x[first + half] * sin(angle)
          result[first + half] = x[first + half] * cos(angle) + x[first] * sin(angle)
        }
      }
    }
    return result
  }

  static func attention(
    _ q: [Double], _ k: [Double], _ v: [Double], heads: Int, keyValueHeads: Int, headWidth: Int,
    length: Int, keyLength: Int, pattern: AttentionPattern = .causal,
    added: (_ head: Int, _ distance: Int) -> Double = { _, _ in 0 }
  ) -> [Double] {
    var output = [Double](repeating: 0, count: q.count)
    let qWidth = heads * headWidth
    let kWidth = keyValueHeads * headWidth
    for row in 0..<q.count / qWidth {
      let sequence = row / length
      let position = keyLength - length + row % length
      let seen = (0..<keyLength).filter { key in
        (!pattern.isCausal || key <= position) && pattern.window.map { key > position - $0 } ?? true
      }
      let scale = pattern.scale.map(Double.init) ?? 1 / Double(headWidth).squareRoot()
      for head in 0..<heads {
        let group = head / (heads / keyValueHeads)
        let scores = seen.map { key in
          let score =
            (0..<headWidth).reduce(0.0) {
              $0 + q[row * qWidth + head * headWidth + $1]
                * k[(sequence * keyLength + key) * kWidth + group * headWidth + $1]
            } * scale + added(head, key - position)
          return pattern.softCap.map { Double($0) * tanh(score / Double($0)) } ?? score
        }
        let top = scores.max() ?? 0
        let weights = scores.map { exp($0 - top) }
        let total = weights.reduce(0, +)
        for i in 0..<headWidth {
          var sum = 0.0
          for (number, key) in seen.enumerated() {
            let place = (sequence * keyLength + key) * kWidth + group * headWidth + i
            sum += weights[number] * v[place]
          }
          output[row * qWidth + head * headWidth + i] = sum / total
        }
      }
    }
    return output
  }

  /// −Σ ln softmax(x · Wᵀ)[target] over rows with a target.
  static func crossEntropy(
    _ x: [Double], _ w: [Double], width: Int, vocabulary: Int, targets: [Int32]
  ) -> Double {
    var loss = 0.0
    for (row, target) in targets.enumerated() where target >= 0 {
      let logits = product(
        Array(x[row * width..<(row + 1) * width]), w, inputs: width, outputs: vocabulary)
      let top = logits.max() ?? 0
      loss += top + log(logits.reduce(0) { $0 + exp($1 - top) }) - logits[Int(target)]
    }
    return loss
  }

  /// Columns `range` of a matrix of `width` columns.
  static func columns(_ x: [Double], width: Int, _ range: Range<Int>) -> [Double] {
    rows(x, width) { Array($0[range]) }
  }

  static func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

  private static func rows(
    _ x: [Double], _ width: Int, _ body: ([Double]) -> [Double]
  ) -> [Double] {
    stride(from: 0, to: x.count, by: width).flatMap { body(Array(x[$0..<$0 + width])) }
  }
}
