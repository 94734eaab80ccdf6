import PeatTensor

/// Which components of low-rank pairs a device trains that trains only some of them.
public enum ComponentChoice: String, Sendable, Codable, CaseIterable {
  /// The first. Rules that make factors anew each round (`product`, `product-exact`) put the best ones there.
  case first
  /// Others in each round and on each device, drawn by the task's seed, so that each component is trained by as many over time.
  ///
  /// After Fang et al. 2025, *Federated Sketching LoRA*, <https://arxiv.org/abs/2501.19389>; here those that do not train act all the same.
  case random
}

/// The components of low-rank pairs in another order, by chance. A pair's product does not depend on it.
///
/// Who trains and sends the first r components of the pairs in this order trains and sends r of them that are drawn: of all pairs of the same rank the same.
package struct ComponentOrder: Sendable, Equatable {
  private let seed: UInt64

  package init(seed: UInt64) { self.seed = seed }

  /// The place that each component comes from.
  package func places(rank: Int) -> [Int] {
    var random = SeededRandom(seed: seed, "components of rank \(rank)")
    return random.shuffled(Array(0..<rank))
  }

  /// The pairs in this order; other tensors as they are.
  package func applied(to tensors: NamedTensors) -> NamedTensors {
    rearranged(tensors) { target, source in (target, source) }
  }

  /// Pairs that are in this order as they were before.
  package func undone(in tensors: NamedTensors) -> NamedTensors {
    rearranged(tensors) { target, source in (source, target) }
  }

  /// - Parameter direction: from the places of a component in this order and before it, to those to write and to read.
  private func rearranged(
    _ tensors: NamedTensors, _ direction: (Int, Int) -> (to: Int, from: Int)
  ) -> NamedTensors {
    var known: [Int: [Int]] = [:]
    return tensors.reduce(into: [:]) { result, entry in
      let (name, tensor) = entry
      let isUp = LowRankNames.layer(ofUp: name) != nil
      guard isUp || LowRankNames.layer(ofDown: name) != nil, tensor.shape.count == 2 else {
        result[name] = tensor
        return
      }
      let (rows, columns) = (tensor.shape[0], tensor.shape[1])
      let rank = isUp ? columns : rows
      let places = known[rank] ?? self.places(rank: rank)
      known[rank] = places
      let made = Tensor(zeros: tensor.shape)
      for (place, source) in places.enumerated() {
        let (to, from) = direction(place, source)
        if isUp {
          for row in 0..<rows {
            made.pointer[row * columns + to] = tensor.pointer[row * columns + from]
          }
        } else {
          for column in 0..<columns {
            made.pointer[to * columns + column] = tensor.pointer[from * columns + column]
          }
        }
      }
      result[name] = made
    }
  }
}
