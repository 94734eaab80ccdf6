/// How the matrices of low-rank adapters are named, after the name of their layer: as in Python PEFT.
package enum LowRankNames {
  /// What stands in front of a layer's name in the model.
  package static let prefix = "base_model.model."
  /// A, `[r, inputs]`.
  package static let down = ".lora_A.weight"
  /// B, `[outputs, r]`.
  package static let up = ".lora_B.weight"
  /// A second pair, which does not train: with it the layer is W + s · (B · A + remainder B · remainder A), s the scale of the first.
  package static let remainderDown = ".remainder_A.weight"
  package static let remainderUp = ".remainder_B.weight"

  /// The layer whose matrix A has this name; `nil` where it is another tensor's.
  package static func layer(ofDown name: String) -> String? { layer(of: name, down) }

  /// The layer whose matrix B has this name; `nil` where it is another tensor's.
  package static func layer(ofUp name: String) -> String? { layer(of: name, up) }

  /// A layer's name in the model.
  package static func inModel(_ layer: String) -> String { layer.dropping(prefix: prefix) }

  private static func layer(of name: String, _ suffix: String) -> String? {
    name.hasSuffix(suffix) ? String(name.dropLast(suffix.count)) : nil
  }

  /// The layer of which this tensor is part of the remainder; `nil` where it is not.
  package static func layer(ofRemainder name: String) -> String? {
    layer(of: name, remainderDown) ?? layer(of: name, remainderUp)
  }

  package static func isRemainder(_ name: String) -> Bool { layer(ofRemainder: name) != nil }
}

/// The two matrices of a low-rank pair.
package struct LowRankFactors: Sendable {
  /// A, `[r, inputs]`.
  package let down: Tensor
  /// B, `[outputs, r]`.
  package let up: Tensor

  package init(down: Tensor, up: Tensor) {
    self.down = down
    self.up = up
  }

  package var rank: Int { down.shape[0] }

  /// Some rows of A and the same columns of B.
  package func components(_ range: Range<Int>) -> LowRankFactors {
    let (inputs, outputs) = (down.shape[1], up.shape[0])
    let first = Tensor(uninitialized: [range.count, inputs])
    first.pointer.update(
      from: down.pointer + range.lowerBound * inputs, count: range.count * inputs)
    let second = Tensor(uninitialized: [outputs, range.count])
    for row in 0..<outputs {
      (second.pointer + row * range.count).update(
        from: up.pointer + row * rank + range.lowerBound, count: range.count)
    }
    return LowRankFactors(down: first, up: second)
  }

  /// The same with the first components replaced.
  package func replacingFirst(with first: LowRankFactors) -> LowRankFactors {
    let (a, b) = (down.copied(), up.copied())
    a.pointer.update(from: first.down.pointer, count: first.down.count)
    for row in 0..<up.shape[0] {
      (b.pointer + row * rank).update(
        from: first.up.pointer + row * first.rank, count: first.rank)
    }
    return LowRankFactors(down: a, up: b)
  }
}

extension NamedTensors {
  /// The layers that have a low-rank pair, in alphabetical order.
  package var lowRankLayers: [String] {
    keys.compactMap(LowRankNames.layer(ofDown:)).sorted()
  }

  /// A layer's pair; `nil` where a matrix of it is missing.
  package func pair(of layer: String) -> LowRankFactors? {
    factors(layer + LowRankNames.down, layer + LowRankNames.up)
  }

  /// A layer's pair that does not train; `nil` where a matrix of it is missing.
  package func remainder(of layer: String) -> LowRankFactors? {
    factors(layer + LowRankNames.remainderDown, layer + LowRankNames.remainderUp)
  }

  private func factors(_ down: String, _ up: String) -> LowRankFactors? {
    guard let down = self[down], let up = self[up] else { return nil }
    return LowRankFactors(down: down, up: up)
  }

  package mutating func setPair(_ pair: LowRankFactors, of layer: String) {
    self[layer + LowRankNames.down] = pair.down
    self[layer + LowRankNames.up] = pair.up
  }

  package mutating func setRemainder(_ pair: LowRankFactors, of layer: String) {
    self[layer + LowRankNames.remainderDown] = pair.down
    self[layer + LowRankNames.remainderUp] = pair.up
  }

  /// The tensors with those that have fewer components than a whole adapter's set into its.
  package func widened(from whole: NamedTensors) -> NamedTensors {
    var result = self
    for layer in lowRankLayers {
      guard let own = pair(of: layer), let wide = whole.pair(of: layer), own.rank != wide.rank
      else { continue }
      result.setPair(wide.replacingFirst(with: own), of: layer)
    }
    return result
  }

  /// All but the pairs that do not train.
  package var withoutRemainders: NamedTensors { filter { !LowRankNames.isRemainder($0.key) } }

  /// Whether these can be of an adapter that began as another: the same names and shapes, but for remainders, which fit the pairs they stand beside.
  package func canFollow(_ first: NamedTensors) -> Bool {
    guard withoutRemainders.mapValues(\.shape) == first.withoutRemainders.mapValues(\.shape) else {
      return false
    }
    return Set(remainders.keys.compactMap(LowRankNames.layer(ofRemainder:))).allSatisfy { layer in
      guard let pair = pair(of: layer), let rest = remainder(of: layer) else { return false }
      return rest.down.shape.count == 2 && rest.down.shape[1] == pair.down.shape.last
        && rest.up.shape == [pair.up.shape[0], rest.down.shape[0]]
    }
  }

  /// The pairs that do not train.
  package var remainders: NamedTensors { filter { LowRankNames.isRemainder($0.key) } }
}

extension String {
  /// The text behind a prefix; the whole of it where it has another beginning.
  package func dropping(prefix: String) -> String {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : self
  }
}
