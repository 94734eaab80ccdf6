import PeatModels
import PeatTensor

/// Keeps the ⌈F · weights⌉ of each matrix of the middle that are the largest in magnitude, the others become zero: `magnitude=0.5`. On disk and on the wire
/// only what is kept is stored, where that is smaller; in memory and in time nothing is saved. Distillation leaves zeros zero.
///
/// As in Han et al. 2015, *Learning both weights and connections*, <https://arxiv.org/abs/1506.02626>, matrix by matrix.
public struct Magnitude: ShareWord {
  public static let name = "magnitude"
  public static let stage = CompressionStage.sparsity
  static let kept = "weights"
  static var mark: WritableKeyPath<CompressionOutline, Bool> { \.isSparse }

  static var exclusions: [(isDone: KeyPath<CompressionOutline, Bool>, reason: String)] {
    [
      (
        \.isFactored,
        "drops single weights of the model's matrices; it can't follow a word that cuts ranks, which leaves factors"
      )
    ]
  }

  public let share: Double

  public func apply(to draft: inout EmulatorDraft) throws {
    for index in draft.blocks.indices {
      try draft.tell(Self.name, index, of: draft.blocks.count)
      var thinned: NamedTensors = [:]
      for path in draft.full.configuration.keys.allLinearPaths {
        let name = "\(path).weight"
        guard let matrix = draft.blocks[index].tensors[name] else { continue }
        let size = matrix.count
        let magnitudes = matrix.withUnsafeBufferPointer { $0.map(\.magnitude) }
        let kept = count(of: size)
        guard kept < size else { continue }
        let threshold = magnitudes.sorted(by: >)[kept - 1]
        // Of those as large as the last that stays, the first ones.
        var equal = kept - magnitudes.count { $0 > threshold }
        let result = Tensor(zeros: matrix.shape)
        for place in 0..<size where magnitudes[place] >= threshold {
          if magnitudes[place] == threshold {
            guard equal > 0 else { continue }
            equal -= 1
          }
          result.pointer[place] = matrix.pointer[place]
        }
        thinned[name] = result
        matrix.releasePages()
      }
      // What is to be distilled is copied once more; memory in pieces is not given back for it.
      for (name, tensor) in (try? thinned.onDisk()) ?? thinned {
        draft.blocks[index].tensors[name] = tensor
      }
    }
  }
}
