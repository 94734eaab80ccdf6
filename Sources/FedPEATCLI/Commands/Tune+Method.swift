import FedPEAT
import Foundation

/// The method, as options say it.
extension Tune {
  /// What will be tuned; `nil`: every weight.
  func adapterMethod() throws -> Adapter.Method? {
    if method == "full" { return nil }
    return try from.map { try AdapterFolder.readFiles(URL(adapter: $0)).method } ?? newMethod()
  }

  /// The method of an adapter that starts anew.
  ///
  /// - Parameter tokenizer: for a text to start from.
  func newMethod(tokenizer: Tokenizer? = nil) throws -> Adapter.Method {
    var options = MethodOptions()
    options.rank = rank ?? options.rank
    options.alpha = alpha ?? options.alpha
    options.targetModules = targetModules.map(MethodWords.modules)
    options.excludeModules = excludeModules.map(MethodWords.modules)
    options.feedForwardModules = feedForwardModules.map(MethodWords.modules)
    options.usesRankStabilizedScale = rankStabilized
    options.dropout = dropout ?? options.dropout
    options.rankPattern = try MethodWords.pattern(rankPattern, of: "--rank-pattern") { Int($0) }
    options.alphaPattern = try MethodWords.pattern(alphaPattern, of: "--alpha-pattern") {
      Double($0)
    }
    options.layers = try layers.map { try MethodWords.numbers($0, of: "--layers") }
    options.virtualTokens = virtualTokens ?? options.virtualTokens
    options.bottleneckSize = bottleneckSize ?? options.bottleneckSize
    if let activation {
      guard let function = BottleneckAdapter.Activation(rawValue: activation) else {
        throw PeatError.usage(
          "Unknown activation '\(activation)'. "
            + suggestion(
              for: activation, among: BottleneckAdapter.Activation.allCases.map(\.rawValue)))
      }
      options.activation = function
    }
    if let initialText, let tokenizer {
      options.start = .tokens(try tokenizer.encode(initialText, addSpecialTokens: true))
    }
    return try options.method(named: method ?? LoRA.name)
  }

  /// Options of the method that the command names.
  var methodOptionsGiven: Set<MethodOptions.Option> {
    let named: [(MethodOptions.Option, Bool)] = [
      (.rank, rank != nil), (.alpha, alpha != nil), (.rankStabilized, rankStabilized),
      (.rankPattern, rankPattern != nil), (.alphaPattern, alphaPattern != nil),
      (.layers, layers != nil), (.dropout, dropout != nil), (.targetModules, targetModules != nil),
      (.excludeModules, excludeModules != nil),
      (.feedForwardModules, feedForwardModules != nil), (.virtualTokens, virtualTokens != nil),
      (.initialText, initialText != nil), (.bottleneckSize, bottleneckSize != nil),
      (.activation, activation != nil),
    ]
    return Set(named.filter(\.1).map(\.0))
  }

  /// Throws where an option asks for another adapter than --from is.
  func checkOptions(fit adapter: Adapter, _ from: String) throws {
    try MethodOptions.check(methodOptionsGiven, of: adapter.method.name) { $0.flag }
    var same: Set<MethodOptions.Option> = [.dropout]
    switch adapter.method {
    case .lora(let lora):
      if lora.rank == rank { same.insert(.rank) }
      if lora.alpha == alpha { same.insert(.alpha) }
      if lora.usesRankStabilizedScale { same.insert(.rankStabilized) }
    case .prefixTuning(let tokens), .promptTuning(let tokens):
      if tokens.virtualTokens == virtualTokens { same.insert(.virtualTokens) }
    case .bottleneck(let bottleneck):
      if bottleneck.size == bottleneckSize { same.insert(.bottleneckSize) }
      if bottleneck.activation.rawValue == activation { same.insert(.activation) }
    case .endBlocks, .ia3, .normTuning, .bitFit: break
    }
    let other = methodOptionsGiven.subtracting(same)
    if let option = other.min(by: { $0.rawValue < $1.rawValue }) {
      throw PeatError.usage(
        "\(option.flag) is for a new adapter; '\(from)' says itself what it is. Leave it out, or leave out --from."
      )
    }
  }
}
