import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

/// How well a model predicts a text.
public struct PerplexityReport: Sendable, Codable, Equatable {
  /// e to the mean loss.
  public var perplexity: Double
  /// Mean nats per predicted token.
  public var loss: Double
  /// Nats of the whole text, in bits, over its bytes; independent of the tokenizer.
  public var bitsPerByte: Double
  /// Predicted tokens that count.
  public var tokens: Int
  /// Whether only what is learned of documents counts: answers, and not the prompts before them.
  public var answersOnly: Bool

  /// Throws where the loss is no number, or so large that the perplexity is none.
  init(_ loss: TokenLoss, bytes: Int, answersOnly: Bool = false) throws {
    guard exp(loss.mean).isFinite else {
      throw PeatError.badData(
        "The model's loss on this text is \(loss.mean) nats per token, which makes no perplexity. Its weights are "
          + "probably damaged, or the adapter diverged.", cause: NoPerplexity())
    }
    self.loss = loss.mean
    perplexity = exp(loss.mean)
    bitsPerByte = bytes > 0 ? loss.sum / log(2) / Double(bytes) : 0
    tokens = loss.count
    self.answersOnly = answersOnly
  }
}

/// Why a perplexity could not be said: what the model gives is no number, or so far off that its exponential is none.
public struct NoPerplexity: Error, Sendable {
  public init() {}
}

/// Measures perplexity over windows.
///
/// A window has up to `context` input tokens and as many predictions; each starts with the last token of the one
/// before, so that every token but the first is predicted once. With a `stride` below the context windows overlap, and
/// each counts only the predictions that no window before it made. What is left at the end of a long text and fills no
/// whole window is not measured. Documents measured by themselves are cut to their first `context` tokens, the begin
/// token included, as a model of that context reads them.
public struct PerplexityMeasure: Sendable {
  public var context: Int
  public var stride: Int
  public var threads: Int

  /// Throws where the model does not predict each next token, the context is longer than the model's, or the stride than the context.
  public init(context: Int, stride: Int? = nil, threads: Int = 1, model: TransformerModel) throws {
    try model.configuration.requireNextTokenHead(for: "Perplexity")
    try model.checkContext(context)
    let stride = stride ?? context
    guard stride > 0, stride <= context else {
      throw PeatError.usage(
        "A stride of \(stride) does not fit: it must be between 1 and the context, \(context).")
    }
    self.context = context
    self.stride = stride
    self.threads = threads
  }

  /// Inputs `start ..< end`, each predicting the next token; those from `counted` on count.
  struct Window: Sendable {
    let row: Int
    let start: Int
    let end: Int
    let counted: Int
  }

  /// The windows of a token row.
  func windows(row: Int, count: Int) -> [Window] {
    guard count > 1 else { return [] }
    let predictions = count - 1
    var result = [Window(row: row, start: 0, end: min(context, predictions), counted: 0)]
    while let last = result.last, last.end < predictions {
      let end = min(last.end + stride, predictions)
      result.append(Window(row: row, start: max(0, end - context), end: end, counted: last.end))
      if stride == context {
        // Without overlap a short last window starts where the one before ended.
        result[result.count - 1] = Window(row: row, start: last.end, end: end, counted: last.end)
      }
    }
    return result
  }

  /// The summed loss over token rows, each on its own.
  ///
  /// - Parameters:
  ///   - limit: only so many windows.
  ///   - wholeWindows: leave out windows shorter than the context, unless there are no others.
  ///   - shouldStop: asked between windows; true ends the measurement with `interrupted`.
  public func loss(
    _ model: TransformerModel, rows: [[Int32]], limit: Int? = nil,
    wholeWindows: Bool = false, shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> TokenLoss {
    try loss(
      model, sequences: rows.map { TokenSequence($0) }, limit: limit, wholeWindows: wholeWindows,
      shouldStop: shouldStop, onProgress: onProgress
    ).loss
  }

  /// The summed loss over what is learned of sequences, each on its own, and the windows that were measured.
  func loss(
    _ model: TransformerModel, sequences: [TokenSequence], limit: Int?, wholeWindows: Bool,
    shouldStop: @Sendable () -> Bool, onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)?
  ) throws -> (loss: TokenLoss, windows: [Window]) {
    for sequence in sequences { try model.checkTokens(sequence.tokens) }
    var windows = sequences.enumerated().flatMap {
      self.windows(row: $0, count: $1.tokens.count)
    }
    if wholeWindows {
      let whole = windows.filter { $0.end - $0.start == context }
      if !whole.isEmpty { windows = whole }
    }
    if let limit { windows = Array(windows.prefix(limit)) }
    guard !windows.isEmpty else {
      throw PeatError.badData("The text has fewer than two tokens: there is nothing to predict.")
    }
    let all = windows
    let loss = try concurrentLoss(
      count: all.count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in measure(model, all[number], sequences[all[number].row], tape) }
    guard loss.sum.isFinite else { throw Self.notFinite(loss) }
    return (loss, all)
  }

  private func measure(
    _ model: TransformerModel, _ window: Window, _ row: TokenSequence, _ tape: Tape
  ) -> TokenLoss {
    let inputs = Array(row.tokens[window.start..<window.end])
    let targets = (window.start..<window.end).map {
      $0 < window.counted || !row.isTarget[$0 + 1] ? -1 : row.tokens[$0 + 1]
    }
    return inputs.withUnsafeBufferPointer { inputs in
      targets.withUnsafeBufferPointer { targets in
        model.loss(
          inputs, targets: targets, layout: SequenceLayout(lengths: [inputs.count]), on: tape)
      }
    }
  }

  static func notFinite(_ loss: TokenLoss) -> PeatError {
    .badData(
      "The model's loss on this text is \(loss.sum): its weights, or the adapter's, hold values that are not "
        + "numbers or are far too large.", cause: NoPerplexity())
  }

  /// Perplexity of texts: as one stream, or each document on its own.
  ///
  /// - Parameters:
  ///   - documents: the texts.
  ///   - asDocuments: whether each is measured on its own; else they are joined as they are.
  ///   - addBegin: whether each row starts with the begin token, which is not predicted.
  ///   - limit: only the first so many documents or, of a single stream, windows.
  public func report(
    _ model: TransformerModel, tokenizer: some TextTokenizer, documents: [String],
    asDocuments: Bool, addBegin: Bool, limit: Int? = nil,
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> PerplexityReport {
    let begin: [Int32]
    if addBegin {
      guard let token = tokenizer.beginToken else {
        throw PeatError.usage(
          "This tokenizer has no begin token (BOS). Leave it out with --no-bos.")
      }
      begin = [token]
    } else {
      begin = []
    }
    var texts = documents
    if asDocuments, let limit { texts = Array(texts.prefix(limit)) }
    if !asDocuments { texts = [texts.joined(separator: "\n")] }
    var rows = try texts.map { begin + (try tokenizer.encode($0, addSpecialTokens: false)) }
    var bytes = texts.reduce(0) { $0 + $1.utf8.count }
    if asDocuments {
      for (index, row) in rows.enumerated() where row.count > context {
        rows[index] = Array(row.prefix(context))
        // Only a part is measured: count the bytes of its tokens.
        bytes += tokenizer.decode(rows[index], skipSpecialTokens: true).utf8.count
        bytes -= texts[index].utf8.count
      }
    }
    let loss = try loss(
      model, rows: rows, limit: asDocuments ? nil : limit, wholeWindows: !asDocuments,
      shouldStop: shouldStop, onProgress: onProgress)
    if let row = rows.first, !asDocuments, loss.count + 1 < row.count {
      // Only a part was measured: count the bytes of the tokens that were predicted.
      bytes =
        tokenizer.decode(Array(row.prefix(loss.count + 1)), skipSpecialTokens: true).utf8.count
    }
    return try PerplexityReport(loss, bytes: bytes)
  }
}

extension TransformerModel {
  /// Throws where a token is none of the model's.
  func checkTokens(_ row: [Int32]) throws {
    let known = configuration.vocabularySize
    if let token = row.first(where: { $0 < 0 || $0 >= known }) {
      throw PeatError.badData(
        "The tokenizer gives token \(token), the model knows \(known). Check that tokenizer.json and config.json come from the same "
          + "checkpoint.")
    }
  }
}
