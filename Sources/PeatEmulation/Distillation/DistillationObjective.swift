import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

/// Makes an emulator's middle compute what the full model's does.
///
///     lossWeight · (−ln q(next token)) + stateWeight · e(last) + blockWeight · Σ e(others) + divergenceWeight · Σ p ln(p / q),   e = ‖t − s‖² / (d · σ²)
///
/// p, q: the probabilities of the next token, the full model's and the emulator's, each with what is in its ends.
/// All are means over tokens. t, s: states in the full model's middle and in the emulator's, where the same goes in: `last`, what comes out of it; the
/// others, what comes out of each of its blocks but the last, beside what goes into the block that follows it in the full model. σ²: the mean square of
/// t, measured once on the first windows; d: the hidden size.
///
/// Source: Xiao, Lin and Han 2023, *Offsite-Tuning*, <https://arxiv.org/abs/2302.04870>: weights 1, 30 and 0. Block by block as in Wu et al. 2024,
/// *FedBiOT*, <https://arxiv.org/abs/2406.17706>, who also match what the models predict, both with the adapter.
struct DistillationObjective: TrainingObjective {
  private let full: TransformerModel
  private let teacher: TransformerModel
  private let emulator: Emulator
  private let settings: DistillationSettings
  private let training: TrainingConfiguration
  /// Where states are compared, by place in the emulator's middle: after so many blocks of the full model's middle.
  private let depths: [Int]
  /// σ² at each.
  private let meanSquares: [Double]
  /// Matrices whose zeros stay zero, with the places.
  private let zeros: [(matrix: Parameter, places: ZeroPlaces)]
  /// How the moment that is kept is chosen.
  private let choice: String

  /// - Parameters:
  ///   - full: says, with what is in its ends, how large states are.
  ///   - teacher: the same in less memory.
  ///   - choice: how the moment that is kept is chosen, in words.
  /// - Throws: `badData` where the full model computes no numbers.
  init(
    _ emulator: Emulator, full: TransformerModel, teacher: TransformerModel, data: TokenDataset,
    settings: DistillationSettings, _ training: TrainingConfiguration, choosing choice: String
  ) throws {
    self.full = full
    self.teacher = teacher
    self.emulator = emulator
    self.settings = settings
    self.training = training
    self.choice = choice
    depths = emulator.middleDepths
    zeros = emulator.zeros
    var sampler = BatchSampler(data, .sequential, rows: settings.batch, seed: 0)
    let batch = sampler.next()
    let tape = Tape()
    let split = emulator.split
    let states = batch.tokens.withUnsafeBufferPointer { tokens in
      var state = full.hiddenStates(below: split.bottom, tokens, layout: batch.layout, on: tape)
      return split.middle.map { block in
        state = teacher.hiddenStates(
          through: block..<block + 1, state, layout: batch.layout, on: tape)
        return state.tensor()
      }
    }
    meanSquares = try depths.map { depth in
      let mean = states[depth - 1].withUnsafeBufferPointer { values in
        values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(max(values.count, 1))
      }
      guard mean.isFinite, mean > 0 else {
        throw PeatError.badData(
          "The full model's middle computes states whose mean square is \(mean): its weights are damaged."
        )
      }
      return mean
    }
  }

  /// A gradient for each thread would take more than the model.
  var sharesGradient: Bool { true }

  func restrain() {
    for (matrix, places) in zeros { places.clear(matrix.tensor) }
  }

  var name: String {
    "distillation of \(emulator.recipe) \(emulator.keptBlocks): \(settings.lossWeight) \(settings.stateWeight) \(settings.blockWeight) \(settings.noise) \(meanSquares), keeping \(choice)"
      + (settings.divergenceWeight > 0 ? ", divergence \(settings.divergenceWeight)" : "")
  }

  func loss(
    _ tokens: UnsafeBufferPointer<Int32>, targets: UnsafeBufferPointer<Int32>,
    layout: SequenceLayout, scale: Float, on tape: Tape
  ) -> TokenLoss {
    let split = emulator.split
    let student = emulator.model
    var states = student.hiddenStates(below: split.bottom, tokens, layout: layout, on: tape)
    if settings.noise > 0 { states = noisy(states, tokens, on: tape) }
    var target = states.detached
    var done = 0
    var loss = 0.0
    for (place, depth) in depths.enumerated() {
      target = teacher.hiddenStates(
        through: split.bottom + done..<split.bottom + depth, target, layout: layout, on: tape)
      done = depth
      states = student.hiddenStates(
        through: split.bottom + place..<split.bottom + place + 1, states, layout: layout, on: tape,
        checkpointing: training.checkpointing)
      let isLast = place == depths.count - 1
      let weight =
        (isLast ? settings.stateWeight : settings.blockWeight)
        / (Double(states.columns) * meanSquares[place])
      if weight > 0 {
        loss += weight * tape.squaredError(states, to: target, scale: scale * Float(weight))
      }
    }
    guard settings.lossWeight > 0 || settings.divergenceWeight > 0 else {
      return TokenLoss(sum: loss, count: targets.count { $0 >= 0 })
    }
    let hidden = student.hiddenStates(
      from: student.configuration.depth - split.top, states, layout: layout, on: tape)
    if settings.lossWeight > 0 {
      loss +=
        settings.lossWeight
        * student.loss(
          of: hidden, targets: targets, scale: scale * Float(settings.lossWeight), on: tape,
          logitRows: training.logitRows
        ).sum
    }
    if settings.divergenceWeight > 0, let head = student.head {
      // What is in the full model's ends is not in the teacher's.
      let predicted = full.hiddenStates(
        from: split.blockCount - split.top, target, layout: layout, on: tape)
      loss +=
        settings.divergenceWeight
        * tape.linearDivergence(
          head.states(hidden, on: tape), from: head.states(predicted, on: tape),
          weight: head.table.weight, bias: head.bias?.weight, softCap: head.softCap,
          scale: scale * Float(settings.divergenceWeight), chunkRows: training.logitRows)
    }
    return TokenLoss(sum: loss, count: targets.count { $0 >= 0 })
  }
}

extension DistillationObjective {
  /// States to which noise was added, of as much as the settings say of each row's root mean square: the same for the same tokens.
  private func noisy(
    _ states: Activation, _ tokens: UnsafeBufferPointer<Int32>, on tape: Tape
  ) -> Activation {
    var hash = settings.seed
    for token in tokens { hash = (hash ^ UInt64(bitPattern: Int64(token))) &* 0x100_0000_01b3 }
    var random = SeededRandom(seed: hash, "noise")
    let tensor = states.tensor()
    let width = states.columns
    for row in 0..<states.rows {
      let place = tensor.pointer + row * width
      var square: Float = 0
      for column in 0..<width { square += place[column] * place[column] }
      let scale =
        Float(settings.noise * Double(random.uniform())) * (square / Float(width)).squareRoot()
      for column in 0..<width { place[column] += scale * Float(random.normal()) }
    }
    return tape.input(tensor)
  }
}

extension Emulator {
  /// Where the matrices of a thinned out middle have zeros.
  fileprivate var zeros: [(matrix: Parameter, places: ZeroPlaces)] {
    guard recipe.isSparse else { return [] }
    return middleBlocks.flatMap(\.linears).flatMap(\.matrices).map {
      ($0, ZeroPlaces(of: $0.tensor))
    }
  }

  /// For each block that is run in the middle: after how many blocks of the full model's middle its states should be the same. The one before the
  /// next that is kept; where blocks are shared, as many as there are.
  var middleDepths: [Int] {
    let order = model.configuration.order.dropFirst(split.bottom).dropLast(split.top)
    if order.count == split.middle.count { return Array(1...order.count) }
    let numbers = order.map { keptBlocks[$0] - split.bottom }
    return numbers.indices.map { $0 + 1 < numbers.count ? numbers[$0 + 1] : split.middle.count }
  }
}
