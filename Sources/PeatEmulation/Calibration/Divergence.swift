import PeatModels
import PeatNN
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension CompressionCalibration {
  /// The mean over predicted tokens of Σ p ln(p / q), in nats: p what the first model says comes next, q what the second says.
  ///
  /// Kullback and Leibler 1951, <https://doi.org/10.1214/aoms/1177729694>.
  package func divergence(of first: TransformerModel, from second: TransformerModel) -> Double {
    let batch = batch
    let workers = StepWorkers(count: threads, parameterCount: 0)
    let sums = WindowSums(batch.windowCount)
    workers.compute(batch.windowCount) { tape, window in
      let places = batch.places(ofWindows: window..<window + 1)
      let layout = batch.layout.part(places)
      let states = [first, second].map { model in
        batch.tokens.withUnsafeBufferPointer { tokens in
          model.hiddenStates(
            UnsafeBufferPointer(rebasing: tokens[places]), layout: layout, on: tape
          ).tensor()
        }
      }
      var sum = 0.0
      for start in stride(from: 0, to: places.count, by: 64) {
        let rows = start..<min(start + 64, places.count)
        let logits = zip(states, [first, second]).map { states, model in
          model.head?.logits(tape.input(states.rows(rows)), on: tape)
            ?? tape.input(states.rows(rows))
        }
        for row in 0..<rows.count where batch.targets[places.lowerBound + start + row] >= 0 {
          sum += divergence(
            logits[0].pointer + row * logits[0].stride, logits[1].pointer + row * logits[1].stride,
            logits[0].columns)
        }
      }
      sums.set(sum, at: window)
    }
    return sums.total / Double(max(batch.targetCount, 1))
  }

  /// Σ p ln(p / q) of two rows of logits.
  private func divergence(
    _ first: UnsafePointer<Float>, _ second: UnsafePointer<Float>, _ count: Int
  ) -> Double {
    func normalizer(_ logits: UnsafePointer<Float>) -> Double {
      var largest = -Float.infinity
      for index in 0..<count { largest = max(largest, logits[index]) }
      var sum = 0.0
      for index in 0..<count { sum += exp(Double(logits[index] - largest)) }
      return Double(largest) + log(sum)
    }
    let (p, q) = (normalizer(first), normalizer(second))
    var result = 0.0
    for index in 0..<count {
      let logP = Double(first[index]) - p
      result += exp(logP) * (logP - Double(second[index]) + q)
    }
    return max(result, 0)
  }
}

/// A number per window, each written by one thread.
final class WindowSums: @unchecked Sendable {
  private let values: UnsafeMutableBufferPointer<Double>

  init(_ count: Int) {
    values = .allocate(capacity: count)
    values.initialize(repeating: 0)
  }

  deinit { values.deallocate() }

  func set(_ value: Double, at index: Int) { values[index] = value }
  var total: Double { values.reduce(0, +) }
}

extension Emulator {
  /// ‖t − s‖² / ‖t‖² of the states behind each block that is run in the middle, the emulator's s and the full model's t where they should be the same; the last
  /// is what comes out of the middle.
  package func blockErrors(
    beside full: TransformerModel, on calibration: CompressionCalibration
  ) -> [Double] {
    let targets = calibration.middleStates(full, split)
    var states = calibration.states(of: model, behind: split.bottom)
    return middleDepths.enumerated().map { place, depth in
      states =
        calibration.run(
          model, through: split.bottom + place..<split.bottom + place + 1, from: states
        ).states
      return states.relativeError(beside: targets[depth])
    }
  }
}

extension Tensor {
  /// ‖t − s‖² / ‖t‖², s these values and t the others.
  fileprivate func relativeError(beside target: Tensor) -> Double {
    var (distance, square) = (0.0, 0.0)
    target.withUnsafeBufferPointer { target in
      withUnsafeBufferPointer { own in
        for (t, s) in zip(target, own) {
          distance += (Double(t) - Double(s)) * (Double(t) - Double(s))
          square += Double(t) * Double(t)
        }
      }
    }
    return square > 0 ? distance / square : 0
  }
}
