import Foundation

/// Everything that defines a federation run. A run file is YAML (or JSON) that names what differs from the defaults;
/// a run writes its complete configuration beside its results.
public struct RunConfiguration: Sendable, Codable, Equatable {
  // MARK: What is tuned

  /// The full model: its folder, or its name on the Hub, if it was pulled.
  public var model = ""
  /// Blocks at the bottom and at the top in which the adapter sits.
  public var bottom = 1
  public var top = 1
  /// One per emulator level, at least one: a recipe such as `layer-drop=2`, or a folder that `compress` wrote.
  public var emulators: [String] = ["layer-drop=2"]
  /// `lora`, `dora`, `ia3`, `norm-tuning`, `bitfit`, `end-blocks`, `prefix-tuning`, `prompt-tuning` or `bottleneck`.
  public var method = LoRA.name
  public var rank = 8
  public var alpha = 16.0
  /// Linear layers that get LoRA, DoRA or IA³, by the ends of their names or regular expressions of whole names, `all-linear` for all; null: all of a block's, for IA³
  /// keys, values and the feed-forward layer's last. And those of them that get none.
  @NameList public var targetModules: [String]?
  @NameList public var excludeModules: [String]?
  /// Whether LoRA's scale is alpha / √rank instead of alpha / rank.
  public var rankStabilized = false
  /// Other ranks and alphas for single layers, by the end of their names: {"down_proj": 4}.
  public var rankPattern: [String: Int] = [:]
  public var alphaPattern: [String: Double] = [:]
  /// Of the end blocks, those that get LoRA, by their number in the full model; null: all.
  public var layers: [Int]?
  /// How probable it is that training drops a value of what goes into LoRA's A.
  public var dropout = 0.0
  /// IA³: targets whose input is scaled instead of their output; null: the feed-forward layer's last.
  @NameList public var feedForwardModules: [String]?
  /// The most components of low-rank pairs that each client of `simulate` trains, dealt out in turn, [2, 4, 8]; null: the whole rank. Over a network
  /// `join --rank-limit` says it.
  public var rankLimits: [Int]?
  /// Which components a client trains that trains only some: `first`, or `random`, others in each round and for each client.
  public var rankComponents = ComponentChoice.first
  /// Virtual tokens of a prefix or a prompt.
  public var virtualTokens = 20
  /// A text that virtual tokens start from; null: tokens drawn from the vocabulary.
  public var initialText: String?
  /// Values between the two layers of a bottleneck adapter, and `relu` or `gelu` between them.
  public var bottleneckSize = 64
  public var activation = BottleneckAdapter.Activation.relu

  // MARK: On what

  /// The clients' texts. `simulate` divides them among the clients; `serve` does not read them, as clients bring their own.
  public var data: String?
  /// The field that says whose a document is; null: dealt out at random.
  public var clientsBy: String?
  /// Another way to divide them, in the words of `PartitionRule`: `dirichlet=0.5:label`, `quantity=1`; null: by `clientsBy`.
  public var partition: String?
  /// What is done to the clients' pictures, in the words of `PictureTransform`, dealt out to clients in turn: [none, rotate=90, invert]. The pictures of
  /// `evaluationData` are dealt them in turn as well, so that what is measured is what clients have; null: nothing.
  @NameList public var clientTransforms: [String]?
  /// How many clients `simulate` makes.
  public var clients = 4
  /// The text perplexity is measured on; null: a part of the clients' data is held back.
  public var evaluationData: String?
  /// The share of each client's data that is held back where there is no `evaluationData`.
  public var validationShare = 0.1
  /// `stream`, `packed` or `documents`: how documents are laid into windows.
  public var layout = LocalTuning.Layout.stream
  /// What is learned: to predict each next token (`next-token`), to say hidden ones (`masked-tokens`), or to tell classes apart (`classification`: each text has a
  /// `label`); null: what the model's head is for.
  public var task: Task?
  /// The classes, in the order of the model's outputs; null: the model's own, or those of the texts.
  public var labels: [String]?
  /// Whether a head of classes that the model has gives way to a new one, drawn by `seed`: for `labels`, or the classes of the texts.
  public var newHead = false
  /// Whether a document begins with the begin token; null: as the tokenizer does.
  public var bos: Bool?
  /// Whether perplexity is measured on each document by itself.
  public var evaluateDocuments = false

  // MARK: How

  public var rounds = 10
  public var localSteps = 10
  public var batch = 8
  /// Input tokens per window. Where a run file and flags name none: `usualContext`, or the model's longest if that is less.
  public var context = usualContext
  public static let usualContext = 256
  /// Where a run file and flags name none: as `MethodOptions.usualLearningRate(of:)` says of the method.
  public var learningRate = MethodOptions.usualLearningRate(of: LoRA.name)
  /// How the learning rate falls from round to round, and from step to step of what the run is compared with: `constant`, `linear` or `cosine`.
  public var schedule = LearningRateSchedule.Course.constant
  public var weightDecay: Float = 0
  public var clipNorm: Float?
  /// Noise on the states behind the emulator's middle while devices tune, as a share of their root mean square: it keeps adapters from
  /// fitting what only the emulator does.
  public var stateNoise = 0.0
  /// How updates become the next adapter: see docs/aggregation.md.
  public var strategy = FedAvg.name
  /// How the server goes there: `momentum`, `adam`, `yogi` or `adagrad`; null: as the strategy's name says, mostly right there.
  public var serverOptimizer: String?
  /// Its learning rate; null: 1, and 0.01 of `adam`, `yogi` and `adagrad`. And how that falls from round to round: `constant`, `linear` or `cosine`.
  public var serverLearningRate: Double?
  public var serverSchedule = LearningRateSchedule.Course.constant
  /// β of momentum or β₁; null: 0.9, and 0 of `adagrad`. β₂; null: 0.99. τ; null: 1e-3.
  public var serverMomentum: Double?
  public var serverBeta2: Double?
  public var serverTau: Double?
  /// How devices step: `adam`, begun anew in each round, or `sgd`.
  public var localOptimizer = OptimizerRule.adam
  /// Whether a device's Adam goes on with its moments from round to round.
  public var keepMoments = false
  /// μ of the term that holds devices near the adapter that a round began with; null: 0, and 0.01 by `fedprox`.
  public var proximal: Double?
  /// The norm that each update's difference from that adapter is cut to; null: none, and 1 by `norm-bound`.
  public var normBound: Double?
  /// The share of values that `trimmed-mean` leaves out at each end; null: 0.1.
  public var trimmedShare: Double?
  /// How many updates may be wrong by `krum` and `multi-krum`; null: as many as they bear. And of how many `multi-krum` takes the mean; null: all others.
  public var faultyClients: Int?
  public var krumKeeps: Int?
  /// `everyone`, `by-memory`, `random`, `availability`, `utility`, `heuristic`, `oort`, `one-round`, `lookahead`, or `learned:FILE`.
  public var planner = EveryonePlanner.name
  /// The share of clients that the planners `random`, `availability` and `utility` want updates of in a round.
  public var share = 0.5
  /// The same as a number; null: by the share.
  public var clientsPerRound: Int?
  /// How many times as many these ask: the round closes when enough have delivered, without the slowest.
  public var overSelection = 1.0
  /// What the emulators cost and are worth, and what cell the clients are in: a file that `calibrate` wrote, or a scenario such as
  /// `pedestrian`. `simulate` lets the run take place there; elsewhere planners use what it says of the emulators. null: no
  /// simulated radio, and what planners need is computed.
  public var edge: String?
  /// The share of the middle that a client may put together at most from all it is sent.
  public var maxExposure = 1.0
  public var minimumClients = 1
  public var minimumUpdates = 1
  /// Seconds a round's training may take, and seconds to wait for the clients it needs.
  public var roundDeadline = 600.0
  public var gatheringDeadline = 300.0
  /// A client that makes no progress for so many seconds is let go once the round's deadline has passed; the others go on. null: the deadline is the same for
  /// all. At most the deadline counts.
  public var stallTimeout: Double? = 60
  /// Seconds that a round may take at most, however much progress is made; null: four times roundDeadline.
  public var longestRound: Double?
  /// How often a round is tried before the run is given up.
  public var attempts = 3
  /// `synchronous`: in rounds; `asynchronous`: clients get work as they come free, and a buffer of updates is aggregated when it is full (FedBuff).
  public var mode = Mode.synchronous
  /// Updates in that buffer; null: 10. And how many clients are at work at a time at most; null: all that are there.
  public var bufferSize: Int?
  public var concurrency: Int?
  public var bufferShare: Double?
  /// How many rounds late an update may come and still be taken, discounted; null: late ones are dropped, and 10 of an asynchronous run.
  public var maximumStaleness: Int?
  /// a in 1 / (1 + s)^a, for which an update counts that is s rounds late; null: 0.5.
  public var stalenessExponent: Double?
  /// The most bytes an update may take; null: what the adapter takes, and a little more.
  public var updateSizeLimit: Int?
  /// The most examples that a client may say it has: its update counts by their number, which nobody can check.
  public var exampleLimit = CoordinatorConfiguration.usualExampleLimit
  /// How far an update may be from the round's adapter, as the L2 norm of the difference; null: any distance.
  public var updateNormLimit: Double?
  /// In how many bits each value of an update is sent: 32, 16, 8 or 4. Below 32 it is the difference from the broadcast adapter, rounded.
  public var uploadBits = 32
  /// The same in words, which say more: `f32`, `f16`, `bf16`, `int8`, `int4`, and before one of them `top-k=S` where only the share S of the differences
  /// is sent, the largest; null: as `uploadBits` says.
  public var upload: String?
  /// How the adapter is sent to clients: `f32`, or its values rounded to `f16`, `bf16`, `int8` or `int4`.
  public var download = "f32"
  /// Plug-in perplexity is measured every so many rounds; 0: only at the end.
  public var evaluateEvery = 0
  /// Of how many rounds, the last ones, the adapters are kept where the run is; that of the best round is beside them.
  public var keepAdapters = 100
  /// The run ends after the round in which plug-in perplexity reaches this; null: after all rounds. It is then measured every round where
  /// `evaluateEvery` says nothing.
  public var targetPerplexity: Double?
  /// The run ends when plug-in has not become better for so many rounds; null: that is no reason. It is then measured as for a target.
  public var plateauRounds: Int?
  /// The share of the best value so far by which it must become better to count; null: 0, any.
  public var plateauGain: Double?
  /// The run ends when it has taken so many seconds, or its clients so many bytes down and up; null: whatever it takes.
  public var timeBudget: Double?
  public var byteBudget: Int?
  /// What the adapter must not be worse than, on the owner's own test set, to be released: `none`, `zero-shot` or `last-released`, with its folder.
  public var releaseGate = ReleaseGate.none
  public var lastReleased: String?
  /// Whether `simulate` measures plug-in on each client's own held-out texts at the end: with the adapter of all, and with one that the client tuned on from there. With
  /// `evaluationData`, too, a part of each client's data is held back then.
  public var perClient = false
  /// Steps of that tuning; null: `localSteps`.
  public var personalSteps: Int?

  // MARK: What goes wrong in a simulation

  /// A test aid of `simulate`: the chance that a client's part in a round comes to nothing.
  public var clientDropouts = 0.0
  /// A test aid of `simulate`: the share of clients, drawn by seed, that are hostile, and what they send in turn: `sign-flip`, `scaled`, `nan`, `stale`.
  public var attackers = 0.0
  @NameList public var attacks: [String]?

  // MARK: Emulators that follow the adapter

  /// A public text of the owner's on which an emulator is distilled again, with the adapter in place, when it has lost fidelity; null: never.
  public var realignData: String?
  /// When that has fallen below this share of what it was at first (the cosine of the adapter's gradients; measured with
  /// `evaluateEvery`).
  public var realignBelow = 0.9
  public var realignSteps = 50
  public var realignRate: Float = 1e-3

  // MARK: The server's own part

  /// Whether the coordinator tunes too, through the full middle, on `serverData`.
  public var participate = false
  public var serverData: String?
  /// The server's share W in the next adapter: (1 − W) · clients + W · server.
  public var serverWeight = 0.25

  // MARK: What it is compared with

  /// Tunes the full model on all clients' texts: the fifth number. Only where they are here: `simulate` has them, `serve` is given them.
  public var fullFineTuning = true
  public var fullFineTuningRate: Float = 1e-3
  /// The same method on the whole uncompressed model, and the same adapter through the uncompressed middle.
  public var fullModelAdapter = false
  public var endBlocksThroughFullMiddle = false
  /// Steps of these; null: rounds · localSteps.
  public var comparisonSteps: Int?

  // MARK: Where

  /// Address to listen on; port 0 lets the system choose.
  public var listen = "127.0.0.1:0"
  /// Address of a page for operators over HTTP, with `/metrics`, `/healthz` and `/readyz`; null: none. Of `serve`.
  public var metricsListen: String?
  /// Whether to do without TLS: anybody on the way can then read and change what travels.
  public var insecure = false
  /// Whether emulators may be sent whose margin was measured to be gone.
  public var withoutModelPrivacy = false
  /// Where results are written; null: nowhere.
  public var out: String?
  public var seed: UInt64 = 0
  /// Threads for tuning and evaluation; null: all cores.
  public var threads: Int?

  public init() {}

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case model, bottom, top, emulators, method, rank, alpha, targetModules, rankLimits
    case excludeModules
    case rankComponents
    case data, clientsBy, partition, clientTransforms, clients, task, labels
    case newHead
    case virtualTokens, initialText, bottleneckSize, activation
    case rankStabilized, rankPattern, alphaPattern, layers, dropout, feedForwardModules
    case evaluationData, validationShare, layout, bos, evaluateDocuments, rounds, localSteps, batch
    case context, learningRate, schedule, weightDecay, clipNorm, strategy, planner, share, edge,
      maxExposure
    case clientsPerRound, overSelection, stallTimeout, longestRound, mode, bufferSize, concurrency
    case bufferShare
    case maximumStaleness, stalenessExponent, plateauRounds, plateauGain, timeBudget, byteBudget
    case releaseGate, lastReleased
    case serverOptimizer, serverLearningRate, serverSchedule, serverMomentum, serverBeta2, serverTau
    case localOptimizer, keepMoments, proximal, normBound, trimmedShare, faultyClients, krumKeeps
    case minimumClients
    case minimumUpdates, roundDeadline, gatheringDeadline, attempts, updateSizeLimit, uploadBits
    case exampleLimit, updateNormLimit
    case upload, download
    case evaluateEvery
    case targetPerplexity, perClient, personalSteps
    case clientDropouts, attackers, attacks
    case stateNoise
    case realignData, realignBelow, realignSteps, realignRate
    case participate, serverData, serverWeight, fullFineTuning, fullFineTuningRate
    case fullModelAdapter, endBlocksThroughFullMiddle, comparisonSteps, listen, insecure
    case metricsListen
    case withoutModelPrivacy, out, keepAdapters, seed
    case threads
  }

  /// Encodes every key, also those that are null: the effective configuration hides nothing.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(model, forKey: .model)
    try container.encode(bottom, forKey: .bottom)
    try container.encode(top, forKey: .top)
    try container.encode(emulators, forKey: .emulators)
    try container.encode(method, forKey: .method)
    try container.encode(rank, forKey: .rank)
    try container.encode(alpha, forKey: .alpha)
    try container.encode(targetModules, forKey: .targetModules)
    try container.encode(excludeModules, forKey: .excludeModules)
    try container.encode(rankLimits, forKey: .rankLimits)
    try container.encode(rankComponents, forKey: .rankComponents)
    try container.encode(rankStabilized, forKey: .rankStabilized)
    try container.encode(rankPattern, forKey: .rankPattern)
    try container.encode(alphaPattern, forKey: .alphaPattern)
    try container.encode(layers, forKey: .layers)
    try container.encode(dropout, forKey: .dropout)
    try container.encode(feedForwardModules, forKey: .feedForwardModules)
    try container.encode(virtualTokens, forKey: .virtualTokens)
    try container.encode(initialText, forKey: .initialText)
    try container.encode(bottleneckSize, forKey: .bottleneckSize)
    try container.encode(activation, forKey: .activation)
    try container.encode(data, forKey: .data)
    try container.encode(clientsBy, forKey: .clientsBy)
    try container.encode(partition, forKey: .partition)
    try container.encode(clientTransforms, forKey: .clientTransforms)
    try container.encode(clients, forKey: .clients)
    try container.encode(evaluationData, forKey: .evaluationData)
    try container.encode(validationShare, forKey: .validationShare)
    try container.encode(layout, forKey: .layout)
    try container.encode(task, forKey: .task)
    try container.encode(labels, forKey: .labels)
    try container.encode(newHead, forKey: .newHead)
    try container.encode(bos, forKey: .bos)
    try container.encode(evaluateDocuments, forKey: .evaluateDocuments)
    try container.encode(rounds, forKey: .rounds)
    try container.encode(localSteps, forKey: .localSteps)
    try container.encode(batch, forKey: .batch)
    try container.encode(context, forKey: .context)
    try container.encode(learningRate, forKey: .learningRate)
    try container.encode(schedule, forKey: .schedule)
    try container.encode(weightDecay, forKey: .weightDecay)
    try container.encode(clipNorm, forKey: .clipNorm)
    try container.encode(stateNoise, forKey: .stateNoise)
    try container.encode(strategy, forKey: .strategy)
    try container.encode(serverOptimizer, forKey: .serverOptimizer)
    try container.encode(serverLearningRate, forKey: .serverLearningRate)
    try container.encode(serverSchedule, forKey: .serverSchedule)
    try container.encode(serverMomentum, forKey: .serverMomentum)
    try container.encode(serverBeta2, forKey: .serverBeta2)
    try container.encode(serverTau, forKey: .serverTau)
    try container.encode(localOptimizer, forKey: .localOptimizer)
    try container.encode(keepMoments, forKey: .keepMoments)
    try container.encode(proximal, forKey: .proximal)
    try container.encode(normBound, forKey: .normBound)
    try container.encode(trimmedShare, forKey: .trimmedShare)
    try container.encode(faultyClients, forKey: .faultyClients)
    try container.encode(krumKeeps, forKey: .krumKeeps)
    try container.encode(planner, forKey: .planner)
    try container.encode(share, forKey: .share)
    try container.encode(clientsPerRound, forKey: .clientsPerRound)
    try container.encode(overSelection, forKey: .overSelection)
    try container.encode(edge, forKey: .edge)
    try container.encode(maxExposure, forKey: .maxExposure)
    try container.encode(minimumClients, forKey: .minimumClients)
    try container.encode(minimumUpdates, forKey: .minimumUpdates)
    try container.encode(roundDeadline, forKey: .roundDeadline)
    try container.encode(gatheringDeadline, forKey: .gatheringDeadline)
    try container.encode(stallTimeout, forKey: .stallTimeout)
    try container.encode(longestRound, forKey: .longestRound)
    try container.encode(attempts, forKey: .attempts)
    try container.encode(mode, forKey: .mode)
    try container.encode(bufferSize, forKey: .bufferSize)
    try container.encode(concurrency, forKey: .concurrency)
    try container.encode(bufferShare, forKey: .bufferShare)
    try container.encode(maximumStaleness, forKey: .maximumStaleness)
    try container.encode(stalenessExponent, forKey: .stalenessExponent)
    try container.encode(updateSizeLimit, forKey: .updateSizeLimit)
    try container.encode(exampleLimit, forKey: .exampleLimit)
    try container.encode(updateNormLimit, forKey: .updateNormLimit)
    try container.encode(uploadBits, forKey: .uploadBits)
    try container.encode(upload, forKey: .upload)
    try container.encode(download, forKey: .download)
    try container.encode(evaluateEvery, forKey: .evaluateEvery)
    try container.encode(targetPerplexity, forKey: .targetPerplexity)
    try container.encode(plateauRounds, forKey: .plateauRounds)
    try container.encode(plateauGain, forKey: .plateauGain)
    try container.encode(timeBudget, forKey: .timeBudget)
    try container.encode(byteBudget, forKey: .byteBudget)
    try container.encode(releaseGate, forKey: .releaseGate)
    try container.encode(lastReleased, forKey: .lastReleased)
    try container.encode(perClient, forKey: .perClient)
    try container.encode(personalSteps, forKey: .personalSteps)
    try container.encode(clientDropouts, forKey: .clientDropouts)
    try container.encode(attackers, forKey: .attackers)
    try container.encode(attacks, forKey: .attacks)
    try container.encode(realignData, forKey: .realignData)
    try container.encode(realignBelow, forKey: .realignBelow)
    try container.encode(realignSteps, forKey: .realignSteps)
    try container.encode(realignRate, forKey: .realignRate)
    try container.encode(participate, forKey: .participate)
    try container.encode(serverData, forKey: .serverData)
    try container.encode(serverWeight, forKey: .serverWeight)
    try container.encode(fullFineTuning, forKey: .fullFineTuning)
    try container.encode(fullFineTuningRate, forKey: .fullFineTuningRate)
    try container.encode(fullModelAdapter, forKey: .fullModelAdapter)
    try container.encode(endBlocksThroughFullMiddle, forKey: .endBlocksThroughFullMiddle)
    try container.encode(comparisonSteps, forKey: .comparisonSteps)
    try container.encode(listen, forKey: .listen)
    try container.encode(metricsListen, forKey: .metricsListen)
    try container.encode(insecure, forKey: .insecure)
    try container.encode(withoutModelPrivacy, forKey: .withoutModelPrivacy)
    try container.encode(out, forKey: .out)
    try container.encode(keepAdapters, forKey: .keepAdapters)
    try container.encode(seed, forKey: .seed)
    try container.encode(threads, forKey: .threads)
  }
}
