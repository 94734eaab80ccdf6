import PeatModels
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Keeps the N blocks that turn the hidden states the most: `importance=4`.
///
/// A block's importance is the mean over tokens of arccos(cos(x, x′)) / π, x and x′ the state before and after it. After Gromov et al. 2024, *The
/// unreasonable ineffectiveness of the deeper layers*, <https://arxiv.org/abs/2403.17887>, who take runs of neighbours.
public struct ImportantLayers: CountedSelection {
  public static let name = "importance"

  /// How many blocks stay.
  public let count: Int

  public init(count: Int) { self.count = count }

  public var needsCalibration: Bool { true }

  public func apply(to draft: inout EmulatorDraft) throws {
    let states = try draft.middleStates(for: Self.name)
    let places = draft.blocks.map { $0.numberInFullModel - draft.split.bottom }
    draft.keep(mostImportant(count, places.map { angle(states[$0], states[$0 + 1]) }))
  }

  private func angle(_ before: Tensor, _ after: Tensor) -> Double {
    let (rows, width) = (before.shape[0], before.shape[1])
    var (sum, count) = (0.0, 0)
    before.withUnsafeBufferPointer { before in
      after.withUnsafeBufferPointer { after in
        for row in 0..<rows {
          var (ab, aa, bb) = (0.0, 0.0, 0.0)
          for index in row * width..<(row + 1) * width {
            let (a, b) = (Double(before[index]), Double(after[index]))
            ab += a * b
            aa += a * a
            bb += b * b
          }
          // Of two stacks of blocks each leaves the other's rows as they are.
          if (row * width..<(row + 1) * width).allSatisfy({ before[$0] == after[$0] }) { continue }
          count += 1
          let cosine = aa > 0 && bb > 0 ? ab / (aa * bb).squareRoot() : 1
          sum += acos(min(max(cosine, -1), 1)) / Double.pi
        }
      }
    }
    return sum / Double(max(count, 1))
  }
}

/// Keeps the N blocks without which the loss rises the most: `loss-importance=4`. Each is left out by itself.
public struct LossImportantLayers: CountedSelection {
  public static let name = "loss-importance"

  /// How many blocks stay.
  public let count: Int

  public init(count: Int) { self.count = count }

  public var needsCalibration: Bool { true }

  public func apply(to draft: inout EmulatorDraft) throws {
    let calibration = try draft.calibrated(for: Self.name)
    let all = Array(0..<draft.split.blockCount)
    let losses = try draft.blocks.enumerated().map { index, block in
      try draft.tell(Self.name, index, of: draft.blocks.count)
      return calibration.loss(
        of: try draft.full.selecting(blocks: all.filter { $0 != block.numberInFullModel }))
    }
    draft.keep(mostImportant(count, losses))
  }
}

/// Keeps N blocks, one for each group of neighbours whose states are alike: `cluster=4`.
///
/// Each block begins as a group; the neighbouring groups are joined whose adjoining members' states have the highest linear CKA (Kornblith et al. 2019,
/// <https://arxiv.org/abs/1905.00414>), until N are left; the middle member of each is kept. States are means over the tokens of a window.
///
/// Source: Zhang et al. 2023, *CRaSh: Clustering, Removing, and Sharing*, <https://arxiv.org/abs/2310.15477>.
public struct ClusteredLayers: CountedSelection {
  public static let name = "cluster"

  /// How many blocks stay.
  public let count: Int

  public init(count: Int) { self.count = count }

  public var needsCalibration: Bool { true }

  public func apply(to draft: inout EmulatorDraft) throws {
    let calibration = try draft.calibrated(for: Self.name)
    let states = try draft.middleStates(for: Self.name)
    let pooled = draft.blocks.map { block in
      centredMeans(states[block.numberInFullModel - draft.split.bottom + 1], calibration)
    }
    var groups = draft.blocks.indices.map { [$0] }
    while groups.count > count {
      let likeness = groups.indices.dropLast().map { place in
        linearCKA(pooled[groups[place].last ?? 0], pooled[groups[place + 1].first ?? 0])
      }
      let place =
        likeness.indices.max { (likeness[$0], $1) < (likeness[$1], $0) } ?? 0
      groups[place] += groups.remove(at: place + 1)
    }
    draft.keep(groups.map { $0[$0.count / 2] })
  }

  /// The mean state of each window, less the mean of all windows: `[windows][d]`.
  private func centredMeans(
    _ states: Tensor, _ calibration: CompressionCalibration
  ) -> [[Double]] {
    let width = states.shape[1]
    let batch = calibration.batch
    var means = (0..<batch.windowCount).map { window in
      let places = batch.places(ofWindows: window..<window + 1)
      var mean = Array(repeating: 0.0, count: width)
      for row in places {
        for column in 0..<width { mean[column] += Double(states.pointer[row * width + column]) }
      }
      return mean.map { $0 / Double(max(places.count, 1)) }
    }
    for column in 0..<width {
      let all = means.reduce(0) { $0 + $1[column] } / Double(max(means.count, 1))
      for window in means.indices { means[window][column] -= all }
    }
    return means
  }

  /// ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖), by the windows' inner products.
  private func linearCKA(_ x: [[Double]], _ y: [[Double]]) -> Double {
    func gram(_ a: [[Double]]) -> [[Double]] {
      a.map { row in a.map { zip(row, $0).reduce(0) { $0 + $1.0 * $1.1 } } }
    }
    func inner(_ a: [[Double]], _ b: [[Double]]) -> Double {
      zip(a, b).reduce(0) { sum, rows in
        sum + zip(rows.0, rows.1).reduce(0) { $0 + $1.0 * $1.1 }
      }
    }
    let (k, l) = (gram(x), gram(y))
    let norm = (inner(k, k) * inner(l, l)).squareRoot()
    return norm > 0 ? inner(k, l) / norm : 1
  }
}

/// The places of the highest scores, rising; of equal ones the first.
private func mostImportant(_ count: Int, _ scores: [Double]) -> [Int] {
  scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(count).sorted()
}
