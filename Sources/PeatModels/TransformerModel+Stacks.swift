import PeatNN
import PeatTensor

/// A model of two stacks of blocks: an encoder, which reads the source of each sequence, and a decoder, which says what stands behind it and looks at what
/// the encoder says.
///
/// Between blocks the states of both lie in one matrix, sequence by sequence, as with any other model: `[source; target]`. The encoder's blocks leave
/// the target's rows as they are, the decoder's those of the source, which keep what the encoder's last block gave, before its norm. So a model is cut between any
/// two blocks, in either stack.
extension TransformerModel {
  /// Sequences of one length; with an encoder the first so many rows of each are its source.
  public func layout(rows: Int, length: Int, sourceLength: Int? = nil) -> SequenceLayout {
    guard configuration.hasEncoder else { return SequenceLayout(rows: rows, length: length) }
    let count = rows / max(length, 1)
    return SequenceLayout(
      lengths: Array(repeating: length, count: count),
      sources: Array(repeating: sourceLength ?? max(1, length / 2), count: count))
  }

  /// Some blocks of those that are run, by their place in the order.
  func throughStacks(
    _ range: Range<Int>, _ states: Activation, _ placement: Placement, on tape: Tape,
    checkpointing: Bool, cache: KeyValueCache?
  ) -> Activation {
    precondition(
      placement.rows.hasSources || cache?.layers.last?.memory != nil,
      "a model with an encoder needs sources")
    let border = order.firstIndex { configuration.keys.isInDecoder($0) } ?? order.count
    let (sources, targets) = placement.rows.sides
    let layouts = placement.rows.sideLayouts
    let isLast = { (index: Int) in index >= self.order.count - 1 }
    var source = tape.rows(states, sources)
    for index in range.clamped(to: 0..<border) where placement.rows.hasSources {
      let block = blocks[order[index]]
      let relative = relative(decoder: false)
      let run = { (tape: Tape, inputs: [Activation]) in
        block(
          inputs[0], layout: layouts.sources, positions: layouts.sources, rotary: nil,
          relative: relative, on: tape)
      }
      source =
        checkpointing && !isLast(index)
        ? tape.checkpoint([source], trains: block.trains || tables(decoder: false), run)
        : run(tape, [source])
    }
    var target = tape.rows(states, targets)
    let decoded = range.clamped(to: border..<max(border, order.count))
    if !decoded.isEmpty {
      let memory = cache?.layers.last?.memory == nil ? encoderNorm?(source, on: tape) : nil
      for index in decoded {
        let block = blocks[order[index]]
        let relative = relative(decoder: true)
        let layer = cache?.layers[index]
        let run = { (tape: Tape, inputs: [Activation]) in
          block(
            inputs[0], layout: layouts.targets, positions: layouts.targets, rotary: nil,
            relative: relative,
            memory: inputs.count > 1
              ? EncoderMemory(states: inputs[1], layout: layouts.sources) : nil,
            on: tape, cache: layer)
        }
        let inputs = [target] + (memory.map { [$0] } ?? [])
        target =
          checkpointing && !isLast(index)
          ? tape.checkpoint(inputs, trains: block.trains || tables(decoder: true), run)
          : run(tape, inputs)
      }
    }
    guard placement.rows.hasSources else { return target }
    return tape.joined([(source, sources), (target, targets)])
  }

  /// The decoder's states normed, in the rows that belong to tokens; those of sources are as they are.
  func finalOfDecoder(_ states: Activation, _ placement: Placement, on tape: Tape) -> Activation {
    let target = tape.rows(states, placement.rows.sides.targets)
    let normed = finalNorm?(target, on: tape) ?? target
    guard placement.rows.hasSources else { return normed }
    // A prompt's rows stand in front of sources, and are left out.
    let skipped = placement.rows.prepended
    var (row, sources, targets): (Int, [Range<Int>], [Range<Int>]) = (0, [], [])
    var kept: [Range<Int>] = []
    for (source, target) in zip(placement.rows.sides.sources, placement.rows.sides.targets) {
      let own = source.dropFirst(skipped)
      kept.append(own)
      sources.append(row..<row + own.count)
      targets.append(row + own.count..<row + own.count + target.count)
      row += own.count + target.count
    }
    return tape.joined([(tape.rows(states, kept).detached, sources), (normed, targets)])
  }

  /// What attention of a stack adds by distance.
  private func relative(decoder: Bool) -> RelativePositions? {
    guard case .relative(_, let longest) = configuration.positions else { return nil }
    return RelativePositions(table: relativeTables[decoder ? 1 : 0].weight, longest: longest)
  }

  /// Whether a stack's table trains.
  private func tables(decoder: Bool) -> Bool {
    relativeTables.indices.contains(decoder ? 1 : 0) && relativeTables[decoder ? 1 : 0].trains
  }
}
