import PeatTensor

extension TransformerConfiguration {
  /// What a tensor of a model does, as far as it matters for who makes a new one.
  public enum TensorRole: Sendable, Equatable {
    /// Rows that are looked up, or added to states.
    case table
    /// A matrix of a linear layer.
    ///
    /// - Parameter intoStates: whether what it gives is added to the states.
    case matrix(inputs: Int, outputs: Int, intoStates: Bool)
    /// What a norm multiplies with; `neutral` changes nothing.
    case scale(neutral: Float)
    /// What is added to a layer's or a norm's outputs.
    case shift
  }

  /// Every tensor of a model of whole blocks, by its name in the checkpoint.
  public var tensors: [(name: String, shape: [Int], role: TensorRole)] {
    var result: [(String, [Int], TensorRole)] = []
    let d = hiddenSize
    func addNorm(_ name: String, _ width: Int) {
      switch norm {
      case .rms(_, let offset):
        result.append(("\(name).weight", [width], .scale(neutral: 1 - offset)))
      case .layer:
        result.append(("\(name).weight", [width], .scale(neutral: 1)))
        result.append(("\(name).bias", [width], .shift))
      }
    }
    if let image {
      result.append(
        (
          keys.embedding, image.projectionShape(d),
          .matrix(inputs: image.patchSize, outputs: d, intoStates: false)
        ))
      if let bias = keys.image?.bias { result.append((bias, [d], .shift)) }
      for token in keys.image?.ownTokens ?? [] {
        result.append((token, keys.image?.ownTokenShape(d) ?? [], .table))
      }
    } else {
      result.append((keys.embedding, [vocabularySize, d], .table))
    }
    if let positions = keys.positions {
      let isDeep = keys.image.map { !$0.isFlat } ?? false
      result.append((positions, (isDeep ? [1] : []) + [positionRows, d], .table))
    }
    if let types = keys.tokenTypes { result.append((types, [tokenTypes, d], .table)) }
    if let name = keys.embeddingNorm { addNorm(name, d) }
    for block in 0..<blockCount {
      let prefix = keys.block(block)
      for item in blockNorms { addNorm("\(prefix).\(item.path)", item.width) }
      for (path, (size, hasBias)) in zip(keys.linearPaths, zip(linearSizes, linearBiases)) {
        result.append(
          (
            "\(prefix).\(path).weight",
            layout == .inputsByOutputs
              ? [size.inputs, size.outputs] : [size.outputs, size.inputs],
            .matrix(
              inputs: size.inputs, outputs: size.outputs,
              intoStates: path == keys.attentionOutput || path == keys.down)
          ))
        if hasBias { result.append(("\(prefix).\(path).bias", [size.outputs], .shift)) }
      }
    }
    if let name = keys.finalNorm { addNorm(name, d) }
    guard let head else { return result }
    if let dense = head.dense {
      result.append(
        ("\(dense).weight", [d, d], .matrix(inputs: d, outputs: d, intoStates: false)))
      result.append(("\(dense).bias", [d], .shift))
    }
    if let name = head.norm { addNorm(name, d) }
    if !head.isTied {
      result.append(
        (
          head.weight, [outputCount, d],
          .matrix(inputs: d, outputs: outputCount, intoStates: false)
        ))
    }
    if let bias = head.bias { result.append((bias, [outputCount], .shift)) }
    return result
  }
}
