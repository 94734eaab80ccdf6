import Foundation

/// Which values make sense, alone and beside each other.
extension RunConfiguration {
  /// Throws where a value makes no sense. Called before any work.
  public func validate() throws {
    func check(_ holds: Bool, _ message: String) throws {
      if !holds { throw PeatError.usage(message) }
    }
    try check(
      !model.isEmpty, "The run needs a model: 'model: FOLDER' in the run file, or --model FOLDER.")
    try check(
      !emulators.isEmpty, "emulators is empty; name at least one recipe, such as layer-drop=2.")
    for word in emulators { _ = try EmulatorSource(word) }
    _ = try partitionRule
    try check(
      clientTransforms.map { !$0.isEmpty && (task ?? .classification) == .classification } ?? true,
      "clientTransforms name what is done to pictures, at least one, and need task: classification."
    )
    _ = try pictureTransforms
    _ = try adapterMethod()
    try MethodOptions.check(methodOptionsGiven, of: method) { "'\($0.rawValue)'" }
    try check(
      clients > 0 && clients <= 100_000,
      "clients is \(clients); it must be between 1 and 100000.")
    try check(
      labels.map {
        $0.count > 1 && Set($0).count == $0.count && [nil, .classification].contains(task)
      } ?? true,
      "labels are the classes of task: classification, two or more, each once.")
    try check(
      !newHead || (task ?? .classification) == .classification,
      "newHead draws a head of classes, and task is \(task?.rawValue ?? ""): set task: classification, or leave newHead out."
    )
    if task == .classification {
      try check(
        targetPerplexity == nil && realignData == nil,
        "task: classification is measured in accuracy: targetPerplexity and realignData, which look at perplexity, can't be used with it."
      )
    }
    try check(
      validationShare > 0 && validationShare < 1,
      "validationShare is \(validationShare); it must be between 0 and 1.")
    try check(
      (0...10).contains(stateNoise), "stateNoise is \(stateNoise); it must be between 0 and 10.")
    try check(
      rounds <= 1_000_000, "rounds is \(rounds); it must be at most 1000000.")
    try check(
      localSteps > 0 && localSteps <= 1_000_000_000,
      "localSteps is \(localSteps); it must be between 1 and a billion.")
    try check(
      fullFineTuningRate > 0 && fullFineTuningRate <= 1000,
      "fullFineTuningRate is \(fullFineTuningRate); it must be above 0, and at most 1000.")
    try check(
      keepAdapters >= 1, "keepAdapters is \(keepAdapters); at least that of the last round is kept."
    )
    try check(evaluateEvery >= 0, "evaluateEvery is \(evaluateEvery); it can't be negative.")
    try check(
      targetPerplexity.map { $0 > 1 && $0.isFinite } ?? true,
      "targetPerplexity must be above 1; leave it out to make all rounds.")
    try check(
      personalSteps.map { $0 > 0 && $0 <= 1_000_000_000 && perClient } ?? true,
      "personalSteps, from 1 to a billion, are of a run that measures clients: set perClient.")
    try check(
      comparisonSteps.map { $0 > 0 } ?? true,
      "comparisonSteps must be at least 1; leave it out for the default.")
    try check(
      updateSizeLimit.map { $0 > 0 } ?? true,
      "updateSizeLimit must be above 0; leave it out for the default.")
    try check(
      exampleLimit > 0 && exampleLimit <= 1_000_000_000,
      "exampleLimit is \(exampleLimit); it must be between 1 and a billion.")
    try check(
      updateNormLimit.map { $0 > 0 && $0.isFinite } ?? true,
      "updateNormLimit must be above 0; leave it out to take updates of any distance.")
    _ = try uploadEncoding
    _ = try downloadEncoding
    try check(
      roundDeadline > 0 && roundDeadline < 1e9 && gatheringDeadline > 0 && gatheringDeadline < 1e9,
      "roundDeadline and gatheringDeadline are seconds above 0; found \(roundDeadline) and \(gatheringDeadline)."
    )
    try check(
      threads.map { $0 > 0 } ?? true, "threads must be at least 1; leave it out to use all cores.")
    try check(
      realignData == nil || evaluationInterval > 0,
      "Emulators are realigned (realignData) when their fidelity has dropped, which is measured with evaluateEvery: set it to 1 or more."
    )
    try check(
      realignBelow > 0 && realignBelow <= 1,
      "realignBelow is \(realignBelow); it must be above 0 and at most 1.")
    try check(
      realignSteps > 0 && realignSteps <= 1_000_000 && realignRate > 0 && realignRate <= 1000,
      "realignSteps must be 1 to 1000000 and realignRate above 0; found \(realignSteps) and \(realignRate)."
    )
    try check(
      !participate || serverData != nil,
      "The server takes part (participate), so it needs data of its own: --server-data FILE.")
    try check(
      serverWeight >= 0 && serverWeight < 1,
      "serverWeight is \(serverWeight); it must be at least 0 and below 1.")
    if let metricsListen { try CoordinatorServer.check(NetworkAddress(metricsListen)) }
    try checkRounds()
    try checkRankLimits()
    _ = try faults
    let rule = try aggregation
    try check(
      !rule.freezesDown || [LoRA.name, LoRA.magnitudeName].contains(method),
      "The strategy '\(strategy)' leaves LoRA's A as it is; the method '\(method)' has none. Use fedavg."
    )
    try checkAggregation(rule)
    try checkPlanner()
    try checkStaleness(rule)
    try check(
      (0...1).contains(maxExposure), "maxExposure is \(maxExposure); it must be between 0 and 1.")
  }

  private func checkRankLimits() throws {
    guard let rankLimits else { return }
    guard [LoRA.name, LoRA.magnitudeName].contains(method) else {
      throw PeatError.usage(
        "rankLimits say how much of the rank clients train; the method '\(method)' has no rank. Leave them out."
      )
    }
    let most = max(rank, rankPattern.values.max() ?? rank)
    guard !rankLimits.isEmpty, rankLimits.allSatisfy((1...most).contains) else {
      throw PeatError.usage(
        "rankLimits are \(rankLimits); they are ranks of at least 1 and at most the adapter's, \(most). Leave them out where clients train the whole rank."
      )
    }
  }

  /// What strategies ask of other keys.
  private func checkAggregation(_ rule: any AggregationStrategy) throws {
    if let faultyClients, minimumUpdates < 2 * faultyClients + 3 {
      throw PeatError.usage(
        "By '\(strategy)' \(faultyClients) faulty clients take \(2 * faultyClients + 3) updates in each round; set minimumUpdates to that or more (it is \(minimumUpdates)), or leave faultyClients out."
      )
    }
    if keepMoments, localOptimizer != .adam || !rule.keepsFactors {
      throw PeatError.usage(
        "keepMoments lets devices' Adam go on from round to round, which \(localOptimizer == .adam ? "the strategy '\(strategy)' takes the ground from: it makes A and B anew each round. Take fedavg, ffa or fedex" : "localOptimizer sgd has none of")."
      )
    }
    if keepMoments, rankComponents == .random {
      throw PeatError.usage(
        "With rankComponents random a device trains other components in each round, to which keepMoments can't belong. Leave one of both out."
      )
    }
    guard rule.usesControls else { return }
    if rankLimits != nil {
      throw PeatError.usage(
        "By 'scaffold' all devices train the whole rank, as their control variates are of all of it: leave rankLimits out."
      )
    }
    if participate {
      throw PeatError.usage(
        "By 'scaffold' the server has no part of its own in the training: leave participate out.")
    }
  }

  /// Planners that can be named, for help texts.
  public static let plannerNames = Planners.names + LivePlanner.names + ["learned:FILE"]

  private func checkPlanner() throws {
    try checkSampling()
    if LivePlanner.knows(planner) { return try LivePlanner.check(planner) }
    guard Planners.knows(planner) else {
      if planner == "learned" || planner.hasSuffix(".safetensors") {
        throw PeatError.usage(
          "The planner '\(planner)' is no name of one. A trained controller is named by its file: learned:\(planner == "learned" ? "controller.safetensors" : planner)."
        )
      }
      throw PeatError.usage(
        "Unknown planner '\(planner)'. \(suggestion(for: planner, among: Self.plannerNames))")
    }
    _ = try Planners.named(planner, size: sampleSize, seed: seed)
    if let level = try Planners.fixedLevel(planner), level >= emulators.count {
      throw PeatError.usage(
        "The planner '\(planner)' names emulator \(level); the run has \(emulators.count), numbered from 0."
      )
    }
  }

  /// Options of the method that differ from their defaults.
  private var methodOptionsGiven: Set<MethodOptions.Option> {
    let usual = RunConfiguration()
    let changed: [(MethodOptions.Option, Bool)] = [
      (.rank, rank != usual.rank), (.alpha, alpha != usual.alpha),
      (.rankStabilized, rankStabilized), (.rankPattern, !rankPattern.isEmpty),
      (.alphaPattern, !alphaPattern.isEmpty), (.layers, layers != nil), (.dropout, dropout != 0),
      (.targetModules, targetModules != nil), (.excludeModules, excludeModules != nil),
      (.feedForwardModules, feedForwardModules != nil),
      (.virtualTokens, virtualTokens != usual.virtualTokens), (.initialText, initialText != nil),
      (.bottleneckSize, bottleneckSize != usual.bottleneckSize),
      (.activation, activation != usual.activation),
    ]
    return Set(changed.filter(\.1).map(\.0))
  }
}
