import PeatNN
import PeatTensor

/// The names of what a model of pictures has below its blocks, beside projection and positions.
public struct ImageKeys: Sendable, Equatable {
  /// The projection's bias.
  public var bias: String?
  /// Tokens of the model's own, in order; each `[1, 1, d]`, or `[d]`.
  public var ownTokens: [String]
  /// Whether own tokens are `[d]` and positions `[P, d]`, without sides of 1 in front.
  public var isFlat: Bool

  public init(bias: String?, ownTokens: [String], isFlat: Bool = false) {
    self.bias = bias
    self.ownTokens = ownTokens
    self.isFlat = isFlat
  }

  /// The shape of an own token.
  func ownTokenShape(_ hidden: Int) -> [Int] { isFlat ? [hidden] : [1, 1, hidden] }
}

extension ImageInput {
  /// Of the projection, as a convolution keeps it: `[d, channels, patch, patch]`.
  func projectionShape(_ hidden: Int) -> [Int] { [hidden, channels, patch, patch] }
}

/// What makes states of patches: a linear layer, the model's own tokens in front, positions.
struct ImageEmbedding: Sendable {
  private let projection: Parameter
  private let bias: Parameter?
  private let ownTokens: [Parameter]

  init(
    _ image: ImageInput, _ projection: Parameter, _ model: TransformerConfiguration,
    _ parameter: (String, [Int], _ inputAxis: Int?) throws -> Parameter
  ) throws {
    self.projection = projection
    let keys = model.keys.image
    bias = try keys?.bias.map { try parameter($0, [model.hiddenSize], nil) }
    ownTokens = try (keys?.ownTokens ?? []).map {
      try parameter($0, keys?.ownTokenShape(model.hiddenSize) ?? [], nil)
    }
  }

  /// Beside projection and positions.
  var parameters: [Parameter] { (bias.map { [$0] } ?? []) + ownTokens }

  /// `[N, d]`
  func embedded(
    _ inputs: ModelInputs, _ layout: SequenceLayout, _ positions: Parameter?, on tape: Tape
  ) -> Activation {
    guard let patches = inputs.patches else {
      preconditionFailure("a model of pictures was given tokens")
    }
    let rows = tape.constantRows(inputs.numbers, of: patches.values)
    let projected = tape.linear(rows, weight: projection.weight.matrix, bias: bias?.weight)
    return tape.imageEmbedding(
      projected, inputs.numbers, layout: layout, own: ownTokens.map(\.weight),
      positions: positions?.weight)
  }
}
