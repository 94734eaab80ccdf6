import FedPEAT
import Foundation
import Synchronization
import TestSupport
import Testing

/// A device that is stopped in the middle of a round's training, of whatever kind, comes to the same update, and does again only what it had not kept.
@Suite("A device's training that is cut") struct CutTrainingTests {
  /// What a round is to be like.
  enum Kind: String, CaseIterable, Sendable {
    case plain, dropout, fedprox, scaffold, moments, endBlocks, documents
  }

  /// A task on the workshop's emulator, its adapter, and where a killed device's folder is copied.
  private struct Round {
    static let steps = 24
    let workshop: TinyWorkshop
    let task: TrainingTask
    let adapter: NamedTensors
    let documents: [Document]

    init(_ kind: Kind) async throws {
      workshop = try await TinyWorkshop.shared()
      let loaded = try LoadedModel(URL(fileURLWithPath: workshop.emulator))
      let method: Adapter.Method =
        kind == .endBlocks
        ? .endBlocks
        : .lora(try LoRAConfiguration(rank: 4, alpha: 8, dropout: kind == .dropout ? 0.2 : 0))
      var adapter = try Adapter(
        new: method, for: loaded.model, blocks: loaded.adapterBlocks, seed: 3, sourceDigest: nil
      ).state
      let training = TrainingConfiguration(
        steps: Round.steps, batch: 2, context: 16, learningRate: 1e-2,
        schedule: .init(.cosine, warmUpSteps: 3), clipNorm: 1,
        order: kind == .documents ? .shuffledEpochs : .uniformWindows)
      var settings = LocalTuning(
        training: training, layout: kind == .documents ? .packed : .stream, method: method)
      if kind == .fedprox { settings.proximal = 0.5 }
      if kind == .moments { settings.keepsMoments = true }
      if kind == .scaffold {
        settings.usesControls = true
        adapter = adapter.settingControls(adapter.mapValues { $0.map { $0 * 0.01 + 1e-3 } })
      }
      self.adapter = adapter
      task = TrainingTask(
        run: "test-run", round: 2, client: "a",
        adapter: BlobReference(digest: Digest(of: Data()), bytes: 0), baseDigest: adapter.digest,
        method: method.name, settings: try JSONEncoder().encode(settings), seed: 77)
      documents = TinyWorkshop.sentences(30, seed: 5).map { Document($0) }
    }

    /// What one life of a device came to.
    struct Life: Sendable {
      var result: LocalResult?
      /// The steps that it made, by their numbers.
      var steps: [Int]
    }

    /// A process's life: it trains, and is stopped after a step.
    ///
    /// - Parameters:
    ///   - killed: after which step all is left as it lies on the disk, copied to `copy`; nothing that the process does later counts.
    ///   - stopped: after which step it is asked to stop.
    func live(
      in folder: URL, every interval: StateKeeping.Interval, threads: Int = 1,
      killed: Int? = nil, to copy: URL? = nil, stopped: Int? = nil, carried: NamedTensors = [:]
    ) async throws -> Life {
      let steps = Mutex<[Int]>([])
      let training = Mutex<Task<LocalResult, any Error>?>(nil)
      let trainer = DeviceTrainer(
        documents: documents, threads: threads, keeping: interval
      ) { progress in
        let step = progress.report.step
        steps.withLock { $0.append(step) }
        if step == killed, let copy { try? FileManager.default.copyItem(at: folder, to: copy) }
        if step == killed || step == stopped { training.withLock { $0 }?.cancel() }
      }
      try await trainer.prepare(package: URL(fileURLWithPath: workshop.emulator), level: 0)
      let unfinished = UnfinishedTraining(of: task, in: folder)
      let begin = Door()
      let work = Task {
        await begin.pass()
        return try await trainer.train(
          task, adapter: adapter, carried: carried, unfinished: unfinished
        ) { _ in }
      }
      training.withLock { $0 = work }
      await begin.open()
      do {
        return Life(result: try await work.value, steps: steps.withLock { $0 })
      } catch is CancellationError {
        return Life(result: nil, steps: steps.withLock { $0 })
      }
    }
  }

  /// Lets others wait.
  private actor Door {
    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    func open() {
      isOpen = true
      for one in waiting { one.resume() }
      waiting = []
    }
    func pass() async {
      if !isOpen { await withCheckedContinuation { waiting.append($0) } }
    }
  }

  private func expectSame(_ found: LocalResult?, _ whole: LocalResult?, _ what: String) throws {
    let (found, whole) = (try #require(found), try #require(whole))
    #expect(found.tensors == whole.tensors, "\(what)")
    #expect(found.metrics == whole.metrics && found.tokens == whole.tokens, "\(what)")
    #expect(found.exampleCount == whole.exampleCount && found.computeSeconds > 0, "\(what)")
  }

  @Test(arguments: Kind.allCases)
  func
    `killed at any step, once or twice, it comes to the same bits, and goes on from what it kept`(
      kind: Kind
    ) async throws
  {
    let round = try await Round(kind)
    let whole = try await withTemporaryFolder {
      try await round.live(in: $0, every: .time(.seconds(1000)))
    }
    #expect(whole.steps == Array(1...Round.steps))
    var random = SeededRandom(seed: 31, kind.rawValue)
    for life in 0..<6 {
      let interval = 1 + random.integer(below: 6)
      let deaths = (0...random.integer(below: 2)).map { _ in
        1 + random.integer(below: Round.steps - 1)
      }.sorted()
      try await withTemporaryFolder { folder in
        var place = folder.appendingPathComponent("0")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
        var kept = 0
        let what = "\(kind), \(life): every \(interval), killed at \(deaths)"
        for (number, death) in deaths.enumerated() {
          let copy = folder.appendingPathComponent("\(number + 1)")
          let cut = try await round.live(
            in: place, every: .steps(interval), killed: death, to: copy)
          #expect(cut.result == nil && cut.steps == Array(kept + 1...death), "\(what)")
          // That of the step itself is not written yet.
          kept = max(kept, (death - 1) / interval * interval)
          place = copy
        }
        let last = try await round.live(in: place, every: .steps(interval))
        // Nothing that was kept is done again.
        #expect(last.steps == Array(kept + 1...Round.steps), "\(what)")
        try expectSame(last.result, whole.result, what)
      }
    }
  }

  /// Moments that are carried on are those that the next training goes on with, cut or not.
  @Test func `what is carried on from the last round is the start of the next`() async throws {
    let round = try await Round(.moments)
    try await withTemporaryFolder { folder in
      let first = try #require(
        try await round.live(
          in: folder.appendingPathComponent("first"), every: .time(.seconds(1000))
        ).result)
      #expect(first.carried["steps"]?.scalars == [24, 0])
      #expect(first.carried.count == 2 * round.adapter.count + 1)
      let next = try await round.live(
        in: folder.appendingPathComponent("next"), every: .time(.seconds(1000)),
        carried: first.carried)
      #expect(next.result?.carried["steps"]?.scalars == [48, 0])
      // Bias correction is over, and the moments are not zero: another result.
      #expect(next.result?.tensors != first.tensors)
      let copy = folder.appendingPathComponent("copy")
      _ = try await round.live(
        in: folder.appendingPathComponent("cut"), every: .steps(5), killed: 17, to: copy,
        carried: first.carried)
      let cut = try await round.live(in: copy, every: .steps(5), carried: first.carried)
      #expect(cut.steps.first == 16)
      try expectSame(cut.result, next.result, "cut")
      #expect(cut.result?.carried == next.result?.carried)
      // Of other tensors they are passed over.
      var strange = first.carried
      strange["second.other"] = strange.removeValue(
        forKey: "second." + (round.adapter.keys.sorted().first ?? ""))
      let anew = try await round.live(
        in: folder.appendingPathComponent("anew"), every: .time(.seconds(1000)), carried: strange)
      try expectSame(anew.result, first, "anew")
    }
  }

  @Test(arguments: [1, 9, 23])
  func `asked to stop, it does nothing twice`(step: Int) async throws {
    let round = try await Round(.scaffold)
    try await withTemporaryFolder { folder in
      let whole = try await round.live(
        in: folder.appendingPathComponent("other"), every: .time(.seconds(1000)))
      let first = try await round.live(in: folder, every: .time(.seconds(1000)), stopped: step)
      #expect(first.result == nil && first.steps == Array(1...step))
      let second = try await round.live(in: folder, every: .time(.seconds(1000)))
      #expect(second.steps == Array(step + 1...Round.steps))
      try expectSame(second.result, whole.result, "stopped at \(step)")
    }
  }

  @Test(arguments: 0..<4)
  func `what is damaged, or of other settings, is dropped, and training begins anew`(
    damage: Int
  ) async throws {
    let round = try await Round(.plain)
    try await withTemporaryFolder { folder in
      let whole = try await round.live(
        in: folder.appendingPathComponent("other"), every: .time(.seconds(1000)))
      _ = try await round.live(in: folder, every: .steps(100), stopped: 10)
      let kept = folder.appendingPathComponent("unfinished")
      let state = kept.appendingPathComponent("1/training_state.safetensors")
      var bytes = try Data(contentsOf: state)
      switch damage {
      case 0:
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: state)
      case 1: try bytes.prefix(bytes.count / 2).write(to: state)
      case 2: try FileManager.default.removeItem(at: kept.appendingPathComponent("task.json"))
      default: break
      }
      // Two threads add up in another order.
      let again = try await round.live(
        in: folder, every: .steps(100), threads: damage == 3 ? 2 : 1)
      #expect(again.steps == Array(1...Round.steps))
      if damage < 3 { try expectSame(again.result, whole.result, "damage \(damage)") }
    }
  }
}
