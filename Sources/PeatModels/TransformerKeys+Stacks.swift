import PeatTensor

extension TransformerKeys {
  /// Where blocks lie: `model.layers`, or those of an encoder and of a decoder.
  public var stacks: [String] { [blocks] + (decoder.map { [$0.blocks] } ?? []) }

  /// How many of the blocks are an encoder's; 0 where there is one stack.
  public var encoderBlocks: Int { decoder?.encoderBlocks ?? 0 }

  /// Whether a block belongs to the decoder behind an encoder.
  public func isInDecoder(_ number: Int) -> Bool {
    decoder.map { number >= $0.encoderBlocks } ?? false
  }

  /// Whether learned keys and values can stand in front of a block's: of two stacks the decoder's alone, as PEFT has it.
  package func takesPrefix(_ number: Int) -> Bool { decoder == nil || isInDecoder(number) }

  /// `model.layers.3`; behind an encoder of four blocks block 5 is `decoder.block.1`.
  public func block(_ number: Int) -> String {
    guard let decoder, number >= decoder.encoderBlocks else { return "\(blocks).\(number)" }
    return "\(decoder.blocks).\(number - decoder.encoderBlocks)"
  }

  /// A block's number within its stack, as names have it.
  public func numberInStack(_ number: Int) -> Int {
    isInDecoder(number) ? number - encoderBlocks : number
  }

  /// The block of a tensor or layer, and its path there: 3 and `mlp.up_proj.weight` of `model.layers.3.mlp.up_proj.weight`. `nil` for what is in none.
  public func place(of name: some StringProtocol) -> (number: Int, path: String)? {
    for stack in stacks where name.hasPrefix("\(stack).") {
      let rest = name.dropFirst(stack.count + 1)
      guard let dot = rest.firstIndex(of: "."), let number = Int(rest[..<dot]), number >= 0,
        number < 1 << 32, rest[..<dot] == String(number)
      else { return nil }
      let path = String(rest[rest.index(after: dot)...])
      // Tables of a whole stack are kept in its first block.
      if let table = relativePositions, path == "\(table).weight" { return nil }
      return (stack == blocks ? number : number + encoderBlocks, path)
    }
    return nil
  }

  /// Whether a tensor is of a block, whatever the block's number.
  public func isInBlock(_ name: String) -> Bool {
    stacks.contains { name.hasPrefix("\($0).") } && !relativeTables.contains(name)
  }

  /// As many of the blocks counted as the encoder's.
  public func counting(encoderBlocks count: Int) -> TransformerKeys {
    var result = self
    result.decoder?.encoderBlocks = count
    return result
  }

  /// Without the numbers of blocks that one model has.
  package var ofArchitecture: TransformerKeys {
    var result = counting(encoderBlocks: 0)
    result.decoder?.encoderBlocksInFullModel = 0
    return result
  }

  /// With blocks numbered as in the full model.
  public var inFullModel: TransformerKeys {
    counting(encoderBlocks: decoder?.encoderBlocksInFullModel ?? 0)
  }

  /// As an emulator counts blocks.
  ///
  /// - Parameter numbers: each block's number in the full model.
  public func counting(_ numbers: some Sequence<Int>) -> TransformerKeys {
    guard let decoder else { return self }
    return counting(
      encoderBlocks: numbers.reduce(0) { $0 + ($1 < decoder.encoderBlocksInFullModel ? 1 : 0) })
  }

  /// The same for a block: a decoder's has its own paths, and looks at what the encoder says.
  public func ofBlock(_ number: Int) -> TransformerKeys {
    isInDecoder(number) ? inDecoder : self
  }

  /// The keys of a decoder's blocks.
  var inDecoder: TransformerKeys {
    guard let decoder else { return self }
    var result = self
    result.cross = decoder.cross
    result.feedForwardNorm = decoder.feedForwardNorm
    (result.gate, result.up, result.down) = (decoder.gate, decoder.up, decoder.down)
    return result
  }

  /// The linear layers of all kinds of blocks.
  public var allLinearPaths: [String] {
    linearPaths + (decoder == nil ? [] : inDecoder.linearPaths.filter { !linearPaths.contains($0) })
      + otherVersionsPaths
  }

  /// The linear layers whose outputs are added to a block's states.
  public var outputPaths: [String] { [attentionOutput, cross?.output, down].compactMap { $0 } }

  /// The tables of relative positions, one for each stack.
  var relativeTables: [String] {
    guard let relativePositions else { return [] }
    return stacks.map { "\($0).0.\(relativePositions).weight" }
  }
}

extension TransformerConfiguration {
  /// Whether the model reads a source and says a target.
  public var hasEncoder: Bool { keys.decoder != nil }

  /// Of a full model.
  var standingAlone: TransformerConfiguration {
    var result = self
    result.keys.decoder?.encoderBlocksInFullModel = keys.encoderBlocks
    return result
  }

  /// Whether every query of a sequence may need all of it.
  public var needsWholeSequences: Bool { !attention.isCausal || hasEncoder }

  /// Throws where an encoder or a decoder would have no block.
  public func checkStacks() throws {
    guard hasEncoder, keys.encoderBlocks == 0 || keys.encoderBlocks >= blockCount else { return }
    throw PeatError.usage(
      "No block of the \(keys.encoderBlocks == 0 ? "encoder" : "decoder") would be left. Keep at least one of each: choose blocks with layers=…, or have larger ends."
    )
  }
}
