import PeatTensor

/// What federated tuning adds to each gradient before the optimizer's step, so also before it is clipped.
///
///     g ← g + μ·(w − w₀) + s
///
/// `w₀` the values that training began with: the first term is the gradient of μ/2 · ‖w − w₀‖² (FedProx, Li et al. 2018,
/// <https://arxiv.org/abs/1812.06127>). `s` is constant: SCAFFOLD's c − cₖ (Karimireddy et al. 2020, <https://arxiv.org/abs/1910.06378>). Reported losses are
/// without both.
public struct GradientTerms {
  /// μ; 0: no such term.
  public let proximal: Float
  /// s, one value for each that trains; `nil`: no such term.
  private let shift: Tensor?
  private var anchor: Tensor?
  /// Of the gradients as they came; only kept where there is a shift.
  package internal(set) var sum: Sum?

  /// A sum of gradients, in float64.
  package struct Sum: Sendable, Equatable {
    var values: [Double]
    var count = 0
  }

  public init(proximal: Float = 0, shift: [Float]? = nil) {
    self.proximal = proximal
    self.shift = shift.map { Tensor($0) }
  }

  /// How many further copies of all that trains this needs, in float32.
  public static func copies(proximal: Bool, shift: Bool) -> Int {
    (proximal ? 1 : 0) + (shift ? 3 : 0)
  }

  /// The mean of the gradients so far, before anything was added; `nil` where there was none, or no shift.
  public var meanGradient: [Float]? {
    sum.flatMap { sum in
      sum.count > 0 ? sum.values.map { Float($0 / Double(sum.count)) } : nil
    }
  }

  /// Remembers where training begins.
  package mutating func begin(at values: Tensor) {
    precondition(
      shift.map { $0.count == values.count } ?? true,
      "GradientTerms: \(shift?.count ?? 0) values of a shift for \(values.count) that train")
    anchor = proximal == 0 ? nil : values.copied()
    sum = shift == nil ? nil : Sum(values: Array(repeating: 0, count: values.count))
  }

  /// Adds the terms.
  ///
  /// - Parameter isStep: whether a step follows, so that the gradient counts for the mean.
  package mutating func add(
    to gradient: UnsafeMutablePointer<Float>, at values: Tensor, isStep: Bool
  ) {
    if let anchor {
      let (now, first) = (values.pointer, anchor.pointer)
      for place in 0..<values.count {
        gradient[place] += proximal * (now[place] - first[place])
      }
    }
    guard let shift else { return }
    if isStep {
      sum?.count += 1
      let before = anchor
      for place in 0..<values.count {
        let own = before.map { proximal * (values.pointer[place] - $0.pointer[place]) } ?? 0
        sum?.values[place] += Double(gradient[place] - own)
      }
    }
    accumulate(shift.count, shift.pointer, to: gradient)
  }
}
