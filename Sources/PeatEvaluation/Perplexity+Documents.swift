import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

extension PerplexityMeasure {
  /// Perplexity of documents, conversations among them as the model's chat template writes them; of a model with an encoder, of what it is to say after what it
  /// reads. Of documents with a part that is given, such as prompts and what a user says, only the rest counts, as in tuning.
  ///
  /// - Parameters:
  ///   - asDocuments: whether each is measured on its own; else they are joined as they are.
  ///   - addBegin: whether each row starts with the begin token; `nil`: as the tokenizer does. What a chat template wrote gets none.
  ///   - limit: only the first so many documents or, of a single stream, windows.
  public func report(
    _ model: TransformerModel, tokenizer: Tokenizer, documents: [Document], asDocuments: Bool,
    addBegin: Bool?, limit: Int? = nil, shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> PerplexityReport {
    if model.configuration.hasEncoder {
      return try reportOfPairs(
        model, tokenizer: tokenizer, limit.map { Array(documents.prefix($0)) } ?? documents,
        shouldStop: shouldStop, onProgress: onProgress)
    }
    let rendered = try tokenizer.rendered(documents)
    let begins =
      try (addBegin ?? tokenizer.addsBeginToken)
      && !rendered.contains { $0.carriesSpecialTokens }
    if rendered.contains(where: \.hasGivenPart) {
      return try reportOfAnswers(
        model, tokenizer: tokenizer, rendered, asDocuments: asDocuments, addBegin: begins,
        limit: limit, shouldStop: shouldStop, onProgress: onProgress)
    }
    return try report(
      model, tokenizer: tokenizer, documents: rendered.map(\.text), asDocuments: asDocuments,
      addBegin: begins, limit: limit, shouldStop: shouldStop, onProgress: onProgress)
  }

  /// Of documents with parts that are given: in sequences, or one behind the other, as they are tuned on.
  private func reportOfAnswers(
    _ model: TransformerModel, tokenizer: Tokenizer, _ documents: [Document], asDocuments: Bool,
    addBegin: Bool, limit: Int?, shouldStop: @Sendable () -> Bool,
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)?
  ) throws -> PerplexityReport {
    let chosen = asDocuments ? limit.map { Array(documents.prefix($0)) } ?? documents : documents
    var sequences = try chosen.map {
      try TokenSequence($0, tokenizer: tokenizer, addBegin: addBegin)
    }
    if asDocuments {
      sequences = sequences.map { sequence in
        TokenSequence(
          tokens: Array(sequence.tokens.prefix(context)),
          isTarget: Array(sequence.isTarget.prefix(context)))
      }
    } else {
      sequences = [
        TokenSequence(
          tokens: sequences.flatMap(\.tokens), isTarget: sequences.flatMap(\.isTarget))
      ]
    }
    let (loss, windows) = try loss(
      model, sequences: sequences, limit: asDocuments ? nil : limit, wholeWindows: !asDocuments,
      shouldStop: shouldStop, onProgress: onProgress)
    guard loss.count > 0 else {
      throw PeatError.badData(
        "None of the text that is measured is an answer: with a context of \(context) tokens only what is given is read. Give a longer --context."
      )
    }
    let bytes = windows.reduce(0) { sum, window in
      let sequence = sequences[window.row]
      let places = (window.counted + 1..<window.end + 1).filter { sequence.isTarget[$0] }
      return sum
        + tokenizer.decode(places.map { sequence.tokens[$0] }, skipSpecialTokens: true).utf8.count
    }
    return try PerplexityReport(loss, bytes: bytes, answersOnly: true)
  }

  private func reportOfPairs(
    _ model: TransformerModel, tokenizer: Tokenizer, _ documents: [Document],
    shouldStop: @Sendable () -> Bool, onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)?
  ) throws -> PerplexityReport {
    let data = try TokenDataset.pairs(
      documents, tokenizer: tokenizer, for: model.configuration, context: context)
    let bytes = data.batches(rows: 1).reduce(0) { sum, batch in
      sum
        + tokenizer.decode(batch.targets.filter { $0 >= 0 }, skipSpecialTokens: true).utf8.count
    }
    let loss = try data.loss(
      model, rows: 1, threads: threads, shouldStop: shouldStop, onProgress: onProgress)
    guard loss.sum.isFinite else { throw Self.notFinite(loss) }
    return try PerplexityReport(loss, bytes: bytes, answersOnly: true)
  }

  /// Perplexity of a text whose tokens lie on disk, as one stream.
  ///
  /// - Parameter limit: only the first so many windows.
  /// - Throws: `usage` where windows are to overlap.
  public func report(
    _ model: TransformerModel, _ file: TokenFile, limit: Int? = nil,
    shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> PerplexityReport {
    guard stride == context else {
      throw PeatError.usage(
        "A text that is read piece by piece is measured in windows that do not overlap: leave the stride out."
      )
    }
    let context = context
    let whole = max(1, (file.count - 1) / context)
    let count = min(limit ?? whole, whole)
    @Sendable func row(_ number: Int) -> TokenSequence {
      file.sequence(number * context..<min((number + 1) * context + 1, file.count))
    }
    for number in 0..<count { try model.checkTokens(row(number).tokens) }
    let loss = try concurrentLoss(
      count: count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      let sequence = row(number)
      let targets = zip(sequence.tokens, sequence.isTarget).dropFirst().map { $1 ? $0 : -1 }
      return sequence.tokens.withUnsafeBufferPointer { tokens in
        targets.withUnsafeBufferPointer { targets in
          model.loss(
            UnsafeBufferPointer(rebasing: tokens.dropLast()), targets: targets,
            layout: SequenceLayout(lengths: [targets.count]), on: tape)
        }
      }
    }
    let answersOnly = loss.count < min(count * context, file.count - 1)
    // Of a part the share of the bytes that its tokens are of all.
    let (bytes, tokens) =
      answersOnly ? (file.learnedBytes, file.learnedCount) : (file.textBytes, file.count - 1)
    return try PerplexityReport(
      loss, bytes: Int(Double(bytes) * Double(loss.count) / Double(max(tokens, 1))),
      answersOnly: answersOnly)
  }
}
