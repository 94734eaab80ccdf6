import PeatModels
import PeatNN
import PeatTensor

extension Emulator {
  /// The share of the full model's middle that this emulator shows.
  ///
  /// Of each tensor W of the middle that a stored block has as W′, 1 − ‖W − W′‖² / ‖W‖² is shown, at least 0, and counts as often as W
  /// has weights: all of a tensor that is as it was, next to all of one in 8 bits, of a low-rank one the share of its energy that is kept, of one
  /// that was tuned what it still has in common. Of a tensor that was made narrower the share of its weights. What follows from several emulators together, or
  /// from queries, is not in it.
  public func exposure(of full: TransformerModel) -> Double {
    shownBlocks(of: full).values.reduce(0, +)
  }

  /// By block of the middle, from 0, the share of the middle's weights that is shown of it.
  public func shownBlocks(of full: TransformerModel) -> [Int: Double] {
    let total = split.middle.reduce(0.0) { sum, number in
      full.blocks[number].parameters.reduce(sum) { $0 + Double($1.count) }
    }
    var result: [Int: Double] = [:]
    for block in model.blocks where split.middle.contains(block.numberInFullModel) {
      let original = full.blocks[block.numberInFullModel]
      var shown = 0.0
      for (own, whole) in zip(block.linears, original.linears) {
        shown += Self.shown(own.product, of: whole.weight.tensor)
        if let ownBias = own.bias, let bias = whole.bias {
          shown += Self.shown(ownBias.tensor, of: bias.tensor)
        }
      }
      for (own, whole) in zip(block.norms, original.norms) {
        shown += Self.shown(own.tensor, of: whole.tensor)
      }
      if shown > 0 { result[block.numberInFullModel - split.bottom] = shown / total }
    }
    return result
  }

  /// How many weights of a tensor another shows.
  private static func shown(_ own: Tensor, of whole: Tensor) -> Double {
    guard own.shape == whole.shape else { return Double(min(own.count, whole.count)) }
    var (distance, square) = (0.0, 0.0)
    own.withUnsafeBufferPointer { own in
      whole.withUnsafeBufferPointer { whole in
        for index in whole.indices {
          let value = Double(whole[index])
          distance += (value - Double(own[index])) * (value - Double(own[index]))
          square += value * value
        }
      }
    }
    guard distance > 0 else { return Double(whole.count) }
    return square > 0 ? Double(whole.count) * max(0, 1 - distance / square) : 0
  }
}

extension Linear {
  /// The whole matrix: the product of both factors where it is kept so.
  fileprivate var product: Tensor {
    guard let reduction else { return weight.tensor }
    // [outputs, r] · [r, inputs], or [inputs, r] · [r, outputs].
    return layout == .outputsByInputs
      ? matrixProduct(weight.tensor, reduction.tensor)
      : matrixProduct(reduction.tensor, weight.tensor)
  }
}
