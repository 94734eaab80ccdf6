import PeatNN
import PeatTensor

/// What stands on a model's last states: a layer that says how probable each token or class is, with what comes before it.
public struct OutputHead: Sendable {
  public let layout: HeadLayout
  /// A layer before the last.
  let dense: Linear?
  let norm: Normalization?
  /// The last layer, `[outputs, d]`: the embedding itself where the two are tied.
  public let table: Parameter
  public let bias: Parameter?
  /// c, where logits become `c · tanh(logit / c)`; those of classes stay as they are, as in transformers.
  public let softCap: Float?

  /// Its own parameters, the embedding not among them.
  public var parameters: [Parameter] {
    (dense?.parameters ?? []) + (norm?.parameters ?? []) + (layout.isTied ? [] : [table])
      + (bias.map { [$0] } ?? [])
  }

  init(
    _ layout: HeadLayout, of model: TransformerConfiguration, embedding: Parameter,
    _ parameter: (String, [Int], _ inputAxis: Int?) throws -> Parameter
  ) throws {
    self.layout = layout
    let hidden = model.embeddingWidth
    dense = try layout.dense.map { name in
      Linear(
        name, weight: try parameter("\(name).weight", [hidden, hidden], 1),
        bias: try parameter("\(name).bias", [hidden], nil), layout: .outputsByInputs)
    }
    norm = try layout.norm.map { try .make(model, $0, width: hidden, parameter) }
    table =
      layout.isTied ? embedding : try parameter(layout.weight, [model.outputCount, hidden], 1)
    bias = try layout.bias.map { try parameter($0, [model.outputCount], nil) }
    softCap = layout.labels == nil ? model.logitSoftCap : nil
  }

  /// What goes into the last layer, `[N, d]` → `[N, d]`.
  package func states(_ x: Activation, on tape: Tape) -> Activation {
    guard let dense else { return layout.scale == 1 ? x : tape.scaled(x, by: layout.scale) }
    let raised = dense(x, on: tape)
    let active = layout.function.map { tape.activated(raised, by: $0) } ?? raised
    return norm?(active, on: tape) ?? active
  }

  /// Logits, `[N, d]` → `[N, outputs]`, without gradients: for few rows.
  package func logits(_ x: Activation, on tape: Tape) -> Activation {
    let logits = tape.linear(states(x, on: tape), weight: table.weight, bias: bias?.weight)
    return softCap.map { tape.capped(logits, by: $0) } ?? logits
  }

  /// The loss of rows that have a target, and on a recording tape the start of its gradient.
  func loss(
    _ x: Activation, targets: UnsafeBufferPointer<Int32>, scale: Float, on tape: Tape,
    chunkRows: Int
  ) -> TokenLoss {
    guard dense != nil || layout.place != .each || layout.scale != 1 else {
      return loss(ofStates: x, targets, scale, tape, chunkRows)
    }
    // What has no target needs no layer before the last.
    let rows = targets.indices.filter { targets[$0] >= 0 }
    guard !rows.isEmpty else { return TokenLoss(sum: 0, count: 0) }
    let chosen = states(tape.rows(x, rows.map { $0..<$0 + 1 }), on: tape)
    return rows.map { targets[$0] }.withUnsafeBufferPointer {
      loss(ofStates: chosen, $0, scale, tape, chunkRows)
    }
  }

  private func loss(
    ofStates x: Activation, _ targets: UnsafeBufferPointer<Int32>, _ scale: Float, _ tape: Tape,
    _ chunkRows: Int
  ) -> TokenLoss {
    tape.linearCrossEntropy(
      x, weight: table.weight, bias: bias?.weight, softCap: softCap, targets: targets,
      scale: scale, chunkRows: chunkRows)
  }
}
