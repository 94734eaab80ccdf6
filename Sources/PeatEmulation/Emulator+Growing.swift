import PeatModels
import PeatTensor

extension Emulator {
  /// What a holder can make of it before tuning it: the same function, with as many blocks in its middle as the full model has there, each of
  /// weights of its own and as wide.
  ///
  /// Blocks that are run more than once become several, factors are multiplied. Heads and channels that are missing get weights by chance, as large as the others', where their inputs are
  /// weighed, and zeros where they are put out. In the place of each block that is missing stands a copy of the nearest, of two
  /// the later, whose output layers (of attention and feed-forward) are zero: it adds nothing to what goes through, until it learns.
  ///
  /// - Returns: `nil` where its middle is as large already, or is one that no plain model computes.
  public func grown() throws -> Emulator? {
    let depth = model.configuration.depth - split.bottom - split.top
    let missing = split.middle.count - depth
    guard missing > 0 || (missing == 0 && model.configuration.variation != .none) else {
      return nil
    }
    guard let plain = try? model.plain() else { return nil }
    let full = model.configuration.keys.inFullModel
    let keys = plain.configuration.keys
    let grownKeys = keys.counting(encoderBlocks: full.encoderBlocks)
    // Which of the plain model's blocks each is a copy of.
    var sources = Array(repeating: 0, count: split.blockCount)
    var tensors = plain.tensors.filter { !keys.isInBlock($0.key) }
    let fillings = try fillings(of: plain)
    func copy(_ place: Int, to target: Int, silent: Bool = false) {
      sources[target] = place
      let (old, new) = (keys.block(place) + ".", grownKeys.block(target) + ".")
      let outputs = keys.ofBlock(place).outputPaths.map { $0 + "." }
      for parameter in plain.blocks[place].parameters {
        let path = String(parameter.name.dropFirst(old.count))
        let isOutput = outputs.contains(where: path.hasPrefix)
        tensors[new + path] =
          silent && isOutput
          ? Tensor(zeros: parameter.shape) : fillings[parameter.name] ?? parameter.tensor
      }
    }
    for number in 0..<split.bottom { copy(number, to: number) }
    for number in 0..<split.top {
      copy(split.bottom + depth + number, to: split.middle.upperBound + number)
    }
    let places = placesInMiddle(depth)
    for place in split.middle.indices {
      let distance = { (run: Int) in abs(places[run] - (place - split.bottom)) }
      // A decoder's block is no copy of an encoder's.
      let alike = places.indices.filter {
        keys.isInDecoder(split.bottom + $0) == grownKeys.isInDecoder(place)
      }
      guard let nearest = alike.min(by: { (distance($0), -$0) < (distance($1), -$1) })
      else { return nil }
      copy(split.bottom + nearest, to: place, silent: distance(nearest) != 0)
    }
    return Emulator(
      model: try TransformerModel(
        configuration: plain.configuration.selecting(blocks: sources), tensors: tensors,
        source: "the grown emulator"),
      split: split, keptBlocks: Array(0..<split.blockCount), recipe: recipe)
  }

  /// For each block that is run in the middle, the place in the full model's middle that it is at: rising.
  private func placesInMiddle(_ depth: Int) -> [Int] {
    if model.configuration.variation.order == nil {
      return keptBlocks.dropFirst(split.bottom).prefix(depth).map { $0 - split.bottom }
    }
    return (0..<depth).map { $0 * split.middle.count / depth }
  }

  /// The matrices of narrower blocks that weigh what goes into heads and channels, with weights for those that are missing.
  ///
  /// - Parameter plain: this model as wide as any, with zeros in their place.
  private func fillings(of plain: TransformerModel) throws -> NamedTensors {
    let configuration = model.configuration
    let keys = configuration.keys
    let plainKeys = plain.configuration.keys
    let places = try configuration.tensorPlaces()
    var result: NamedTensors = [:]
    for (place, number) in configuration.order.enumerated() {
      let own = keys.ofBlock(number)
      for (path, linear) in zip(own.linearPaths, model.blocks[number].linears)
      where !own.outputPaths.contains(path) {
        guard let lines = places["\(keys.block(number)).\(path).weight"],
          let matrix = plain.tensors["\(plainKeys.block(place)).\(path).weight"]
        else { continue }
        let shape =
          linear.layout == .outputsByInputs
          ? [linear.outputs, linear.inputs] : [linear.inputs, linear.outputs]
        let isThere = lines.spread(Tensor(repeating: 1, shape: shape))
        result["\(plainKeys.block(place)).\(path).weight"] = matrix.filled(
          where: isThere, seed: place)
      }
    }
    return result
  }
}

extension Tensor {
  /// The same with normal numbers as large as the others' root mean square where another has zeros.
  fileprivate func filled(where isThere: Tensor, seed: Int) -> Tensor {
    let result = copied()
    var (sum, count) = (0.0, 0)
    for index in 0..<self.count where isThere.pointer[index] != 0 {
      sum += Double(pointer[index]) * Double(pointer[index])
      count += 1
    }
    let size = Float((sum / Double(max(count, 1))).squareRoot())
    var random = SeededRandom(seed: UInt64(seed), "filling")
    for index in 0..<self.count where isThere.pointer[index] == 0 {
      result.pointer[index] = size * Float(random.normal())
    }
    return result
  }
}
