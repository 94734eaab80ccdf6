import Foundation

/// What a run's parts are made of: its method, strategy, encodings and trainings.
extension RunConfiguration {
  /// The tuning method as a value.
  ///
  /// - Parameter tokenizer: of the model, for a text that virtual tokens start from; without it they start from the vocabulary.
  public func adapterMethod(tokenizer: Tokenizer? = nil) throws -> Adapter.Method {
    var options = MethodOptions()
    (options.rank, options.alpha, options.targetModules) = (rank, alpha, targetModules)
    options.excludeModules = excludeModules
    (options.virtualTokens, options.bottleneckSize) = (virtualTokens, bottleneckSize)
    options.activation = activation
    (options.usesRankStabilizedScale, options.dropout) = (rankStabilized, dropout)
    (options.rankPattern, options.alphaPattern) = (rankPattern, alphaPattern)
    (options.layers, options.feedForwardModules) = (layers, feedForwardModules)
    if let initialText, let tokenizer {
      options.start = .tokens(try tokenizer.encode(initialText, addSpecialTokens: true))
    }
    return try options.method(named: method)
  }

  /// How updates become the next adapter.
  public var aggregation: any AggregationStrategy {
    get throws {
      var options = StrategyOptions()
      options.serverOptimizer = serverOptimizer
      options.serverLearningRate = serverLearningRate
      options.serverMomentum = serverMomentum
      options.serverBeta2 = serverBeta2
      options.serverTau = serverTau
      options.proximal = proximal
      options.normBound = normBound
      options.trimmedShare = trimmedShare
      options.faultyClients = faultyClients
      options.krumKeeps = krumKeeps
      return try Strategies.named(strategy, options)
    }
  }

  /// How updates are written where a planner does not say it.
  public var uploadEncoding: UpdateEncoding {
    get throws {
      guard let upload else { return try UpdateEncoding(bits: uploadBits) }
      guard uploadBits == 32 else {
        throw PeatError.usage(
          "upload is '\(upload)' and uploadBits \(uploadBits). Give one of both: the words of upload say the bits, too."
        )
      }
      return try Self.encoding(upload, "upload")
    }
  }

  /// How the adapter is written that clients are sent.
  public var downloadEncoding: UpdateEncoding {
    get throws {
      let encoding = try Self.encoding(download, "download")
      guard encoding.share == nil else {
        throw PeatError.usage(
          "download is '\(download)'; the adapter is sent whole, so it can't be top-k: f32, f16, bf16, int8 or int4."
        )
      }
      return encoding
    }
  }

  private static func encoding(_ word: String, _ key: String) throws -> UpdateEncoding {
    do { return try UpdateEncoding(word: word) } catch let error as PeatError {
      throw PeatError.usage("\(key): \(error.message)")
    }
  }

  var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

  /// Steps of each comparison on the pooled texts: as many as one client makes in all rounds, unless it is said.
  public var comparisonStepCount: Int { comparisonSteps ?? rounds * localSteps }

  /// Steps in which a client makes an adapter of its own of the one of all.
  var personalStepCount: Int { personalSteps ?? localSteps }

  /// After how many rounds plug-in is measured; 0: never.
  var evaluationInterval: Int {
    let isNeeded = targetPerplexity != nil || plateauRounds != nil
    return isNeeded && evaluateEvery == 0 ? 1 : evaluateEvery
  }

  /// Tokens that a client trains on in a step, and in a round.
  var stepTokens: Int { batch * context }
  var roundTokens: Int { localSteps * stepTokens }

  /// How one client tunes in one round.
  func localTuning(method: Adapter.Method) throws -> LocalTuning {
    var settings = training(steps: localSteps, rate: learningRate, seed: seed)
    settings.stateNoise = stateNoise
    var tuning = LocalTuning(training: settings, layout: layout, addBegin: bos, method: method)
    let rule = try aggregation
    tuning.freezesDown = rule.freezesDown
    tuning.proximal = rule.proximal == 0 ? nil : rule.proximal
    tuning.usesControls = rule.usesControls ? true : nil
    tuning.keepsMoments = keepMoments ? true : nil
    if localOptimizer != .adam { tuning.training.rule = localOptimizer }
    return tuning
  }

  func training(
    steps: Int, rate: Float, course: LearningRateSchedule.Course = .constant, seed: UInt64
  ) -> TrainingConfiguration {
    TrainingConfiguration(
      steps: steps, batch: batch, context: context, learningRate: rate,
      schedule: LearningRateSchedule(course), optimizer: .init(weightDecay: weightDecay),
      clipNorm: clipNorm,
      order: layout == .stream ? .uniformWindows : .shuffledEpochs, seed: seed,
      threads: threadCount)
  }

  /// The run's name, which enrolment tokens are for.
  public var runID: RunID { get throws { try RunID("run-\(seed)") } }
}
