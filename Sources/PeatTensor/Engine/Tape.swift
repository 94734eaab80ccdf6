/// Runs operations and remembers what their backward pass needs.
///
/// Operations are fused and coarse (a whole linear layer with bias, residual and LoRA; a whole causal attention),
/// so a step of a 12-block model makes about a hundred records, kept in an array whose memory is reused. An
/// operation with nothing trainable upstream leaves no record. One tape belongs to one worker and one thread.
public final class Tape {
  /// Whether records are kept; without, the tape only computes.
  public internal(set) var isRecording: Bool
  package let pool: BufferPool
  /// Gradients of the trainable weights, laid out by `Weight.gradientOffset`; operations add to it.
  package let weightGradients: UnsafeMutablePointer<Float>?

  /// Its place among the workers that divide the batch's sequences; `nil` where sequences are whole.
  package var share: SequenceShare?

  /// Its turn among the workers that add to the same gradients; `nil` where they are its own.
  package var turn: GradientTurn?

  /// Where in training it is, for what is dropped by chance; `nil` where nothing is dropped.
  package var dropoutPlace: DropoutPlace?

  /// Threads that share the work of each operation, where a tape only computes.
  package var team: ThreadTeam?

  /// Where time goes, while somebody measures.
  package var profile: StepProfile?

  /// Who looks at what goes through linear layers, while somebody does.
  package var observer: (any LinearObserver)?

  private var records: [Record] = []
  private var gradients: [Buffer?] = []

  /// - Parameters:
  ///   - pool: memory for activations; belongs to the same worker.
  ///   - weightGradients: where gradients of weights are added; `nil` for a tape that only computes.
  ///   - isRecording: whether records are kept; where there are gradients to add to if not given.
  package init(
    pool: BufferPool, weightGradients: UnsafeMutablePointer<Float>? = nil, isRecording: Bool? = nil
  ) {
    self.pool = pool
    self.weightGradients = weightGradients
    self.isRecording = isRecording ?? (weightGradients != nil)
  }

  /// A tape that computes and records nothing.
  public convenience init() { self.init(pool: BufferPool()) }

  // MARK: For operations

  /// A new matrix with undefined content; it gets a gradient slot if asked and the tape records.
  package func makeActivation(rows: Int, columns: Int, needsGradient: Bool) -> Activation {
    Activation(
      buffer: pool.take(max(rows * columns, 1)), rows: rows, columns: columns, stride: columns,
      slot: needsGradient && isRecording ? makeSlot() : nil)
  }

  func makeSlot() -> GradientSlot {
    gradients.append(nil)
    return GradientSlot(index: gradients.count - 1)
  }

  func record(_ record: Record) { records.append(record) }

  /// How many operations left a record so far.
  package var recordCount: Int { records.count }

  /// The gradient that arrived at an operation's output, which is then forgotten; `nil` if none did.
  func takeGradient(of activation: Activation) -> Buffer? {
    guard let slot = activation.slot else { return nil }
    let buffer = gradients[slot.index]
    gradients[slot.index] = nil
    return buffer
  }

  /// The gradient collected so far, still kept.
  func peekGradient(of activation: Activation) -> Buffer? {
    activation.slot.flatMap { gradients[$0.index] }
  }

  /// Where to put the gradient with respect to an input: a matrix with the input's stride.
  ///
  /// If `isFresh`, its content is undefined and the operation overwrites all of it; else the operation adds.
  func gradientTarget(
    for input: Activation, in slot: GradientSlot
  ) -> (pointer: FloatPointer, isFresh: Bool) {
    if let buffer = gradients[slot.index] { return (buffer.pointer + input.offset, false) }
    let count = input.rows * input.stride
    let buffer = pool.take(max(count, 1))
    gradients[slot.index] = buffer
    if input.columns == input.stride { return (buffer.pointer, true) }
    buffer.pointer.update(repeating: 0, count: count)
    return (buffer.pointer + input.offset, false)
  }

  /// Adds a whole gradient to an input's, or makes it the input's if there is none yet.
  ///
  /// The gradient lies as the input does, with its stride; if the input is a range of columns, all columns of the
  /// matrix that it belongs to are there.
  func give(_ gradient: Buffer, to input: Activation) {
    guard let slot = input.slot else { return }
    if let existing = gradients[slot.index] {
      add(input.rows * input.stride, gradient.pointer, to: existing.pointer)
    } else {
      gradients[slot.index] = gradient
    }
  }

  /// Hands over where an operation adds the gradient with respect to a weight, when it is this worker's turn; does nothing if the weight is frozen.
  func addGradient(of weight: Weight, _ body: (FloatPointer) -> Void) {
    guard let offset = weight.gradientOffset, let base = weightGradients else { return }
    guard let turn else { return body(base + offset) }
    turn.add(at: offset) { body(base + offset) }
  }

  /// The same for weights that always get gradients together, a norm's; calls `body` in any case, with `nil` for one that is frozen, or that there is
  /// none of.
  func addGradients(
    of first: Weight, _ second: Weight?, _ body: (FloatPointer?, FloatPointer?) -> Void
  ) {
    func pointer(_ weight: Weight?) -> FloatPointer? {
      guard let offset = weight?.gradientOffset else { return nil }
      return weightGradients.map { $0 + offset }
    }
    guard let turn, let place = first.gradientOffset ?? second?.gradientOffset else {
      return body(pointer(first), pointer(second))
    }
    turn.add(at: place) { body(pointer(first), pointer(second)) }
  }

  // MARK: For the step

  /// Carries gradients from the last record back to the first. Afterwards the tape is empty.
  package func backward() {
    unwind()
    gradients.removeAll(keepingCapacity: true)
  }

  /// Runs the records backwards and keeps the gradients that arrived at inputs.
  func unwind() { while let record = records.popLast() { record.backward(self) } }

  /// A constant input, `[rows, columns]`; it has a gradient slot if `needsGradient`.
  package func input(_ tensor: Tensor, needsGradient: Bool = false) -> Activation {
    precondition(tensor.shape.count == 2, "input: expected a matrix, found \(tensor.shape)")
    let result = makeActivation(
      rows: tensor.shape[0], columns: tensor.shape[1], needsGradient: needsGradient)
    result.pointer.update(from: tensor.pointer, count: tensor.count)
    return result
  }

  /// Sets the gradient with respect to an output by hand, as the start of `backward()`.
  package func seed(_ gradient: Tensor, for output: Activation) {
    guard let slot = output.slot else { return }
    precondition(
      gradient.shape == [output.rows, output.columns],
      "seed: \(gradient.shape) for an output of "
        + "[\(output.rows), \(output.columns)]")
    let (target, isFresh) = gradientTarget(for: output, in: slot)
    for row in 0..<output.rows {
      let source = gradient.pointer + row * output.columns
      let place = target + row * output.stride
      if isFresh {
        place.update(from: source, count: output.columns)
      } else {
        add(output.columns, source, to: place)
      }
    }
  }

  /// Runs backward and returns the gradients that arrived at the given inputs (zero where none did).
  package func backward(gradientsOf inputs: [Activation]) -> [Tensor] {
    unwind()
    let result = inputs.map { input in
      guard let buffer = peekGradient(of: input) else {
        return Tensor(zeros: [input.rows, input.columns])
      }
      return Activation(
        buffer: buffer, offset: input.offset, rows: input.rows, columns: input.columns,
        stride: input.stride, slot: nil
      ).tensor()
    }
    gradients.removeAll(keepingCapacity: true)
    return result
  }
}

/// What one operation left behind for its backward pass. Each case's payload stands in the operation's own file.
enum Record {
  case embedding(EmbeddingRecord)
  case rmsNorm(RMSNormRecord)
  case layerNorm(LayerNormRecord)
  case linear(LinearRecord)
  case rotary(RotaryRecord)
  case attention(AttentionRecord)
  case activated(ActivatedRecord)
  case gated(GatedRecord)
  case regrouping(RegroupingRecord)
  case imageEmbedding(ImageEmbeddingRecord)
  case crossEntropy(CrossEntropyRecord)
  case checkpoint(CheckpointRecord)
  case tanh(TanhRecord)
  case pooling(PoolingRecord)
  case sequenceMean(SequenceMeanRecord)
  case transposition(SequenceTranspositionRecord)
  case squaredError(SquaredErrorRecord)
  case observation(ObservationRecord)
  case rowSelection(RowSelectionRecord)
  case rowJoining(RowJoiningRecord)
  case scaling(ScalingRecord)
  case addition(AdditionRecord)
  case relu(ReLURecord)
  case columnScaling(ColumnScalingRecord)
  case dropout(DropoutRecord)

  private var part: StepProfile.Part? {
    switch self {
    case .embedding, .rotary, .activated, .gated, .regrouping, .imageEmbedding, .tanh, .pooling,
      .sequenceMean, .transposition, .rowSelection, .rowJoining, .scaling,
      .addition, .relu, .columnScaling, .dropout:
      .elementwise
    case .rmsNorm, .layerNorm: .norms
    case .linear: .products
    case .attention: .attention
    case .crossEntropy, .squaredError: .loss
    case .checkpoint, .observation: nil
    }
  }

  func backward(_ tape: Tape) {
    guard let part, tape.profile != nil else {
      run(tape)
      return
    }
    tape.measured(part) { run(tape) }
  }

  private func run(_ tape: Tape) {
    switch self {
    case .embedding(let record): record.backward(tape)
    case .rmsNorm(let record): record.backward(tape)
    case .layerNorm(let record): record.backward(tape)
    case .linear(let record): record.backward(tape)
    case .rotary(let record): record.backward(tape)
    case .attention(let record): record.backward(tape)
    case .activated(let record): record.backward(tape)
    case .gated(let record): record.backward(tape)
    case .regrouping(let record): record.backward(tape)
    case .imageEmbedding(let record): record.backward(tape)
    case .crossEntropy(let record): record.backward(tape)
    case .checkpoint(let record): record.backward(tape)
    case .tanh(let record): record.backward(tape)
    case .pooling(let record): record.backward(tape)
    case .sequenceMean(let record): record.backward(tape)
    case .transposition(let record): record.backward(tape)
    case .squaredError(let record): record.backward(tape)
    case .observation(let record): record.backward(tape)
    case .rowSelection(let record): record.backward(tape)
    case .rowJoining(let record): record.backward(tape)
    case .scaling(let record): record.backward(tape)
    case .addition(let record): record.backward(tape)
    case .relu(let record): record.backward(tape)
    case .columnScaling(let record): record.backward(tape)
    case .dropout(let record): record.backward(tape)
    }
  }
}
