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
    let (d, width) = (hiddenSize, embeddingWidth)
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
      result.append((keys.embedding, [vocabularySize, width], .table))
    }
    if let positions = keys.positions {
      let isDeep = keys.image.map { !$0.isFlat } ?? false
      result.append((positions, (isDeep ? [1] : []) + [positionRows, d], .table))
    }
    if let types = keys.tokenTypes { result.append((types, [tokenTypes, d], .table)) }
    if let name = keys.embeddingNorm { addNorm(name, d) }
    func addMatrix(_ name: String, _ inputs: Int, _ outputs: Int) {
      result.append(
        (
          "\(name).weight", [outputs, inputs],
          .matrix(inputs: inputs, outputs: outputs, intoStates: false)
        ))
    }
    if let name = keys.inputProjection { addMatrix(name, width, d) }
    if let name = keys.outputProjection { addMatrix(name, d, width) }
    if let decoder = keys.decoder { addNorm(decoder.encoderNorm, d) }
    if case .relative(let buckets, _) = positions {
      for table in keys.relativeTables { result.append((table, [buckets, heads], .table)) }
    }
    for block in 0..<blockCount {
      let prefix = keys.block(block)
      let own = keys.ofBlock(block)
      for item in blockNorms(own) { addNorm("\(prefix).\(item.path)", item.width) }
      for (path, (size, hasBias)) in zip(
        own.linearPaths, zip(linearSizes(own), linearBiases(own)))
      {
        result.append(
          (
            "\(prefix).\(path).weight",
            layout == .inputsByOutputs
              ? [size.inputs, size.outputs] : [size.outputs, size.inputs],
            .matrix(
              inputs: size.inputs, outputs: size.outputs,
              intoStates: [own.attentionOutput, own.down, own.cross?.output].contains(path))
          ))
        if hasBias { result.append(("\(prefix).\(path).bias", [size.outputs], .shift)) }
      }
    }
    if let name = keys.finalNorm { addNorm(name, d) }
    guard let head else { return result }
    if let dense = head.dense {
      addMatrix(dense, width, width)
      result.append(("\(dense).bias", [width], .shift))
    }
    if let name = head.norm { addNorm(name, width) }
    if !head.isTied {
      result.append(
        (
          head.weight, [outputCount, width],
          .matrix(inputs: width, outputs: outputCount, intoStates: false)
        ))
    }
    if let bias = head.bias { result.append((bias, [outputCount], .shift)) }
    return result
  }
}
