import PeatControl
import PeatFederation
import PeatTensor

/// What a planner says of a device's work in a round, beside whether it takes part and on which emulator.
public struct EdgeWork: Sendable, Codable, Equatable, BitwiseCopyable {
  /// Local steps, as a multiple of the run's own.
  public var steps = 1.0
  /// What the learning rate is multiplied with.
  public var learningRate = 1.0
  /// The share of the adapter's rank components that train and are sent.
  public var rank = 1.0
  /// Of each value of the update.
  public var uploadBits = 32

  public init() {}

  /// As the run's settings have it.
  public static let own = EdgeWork()
}

/// What an update takes of which not all is sent, or not in 32 bits.
public struct UploadSize: Sendable, Codable, Equatable {
  /// The share of the adapter's rank components, and of each value.
  public var rank: Double
  public var bits: Int
  /// With the header and the scales.
  public var bytes: Double

  public init(rank: Double, bits: Int, bytes: Double) {
    self.rank = rank
    self.bits = bits
    self.bytes = bytes
  }
}

extension [UploadSize] {
  /// Bytes of an update as a device's work says: as they are known, else in proportion.
  ///
  /// - Parameter adapterBytes: of one of which all is sent, in 32 bits.
  func bytes(_ work: EdgeWork, adapterBytes: Double) -> Double {
    first { $0.rank == work.rank && $0.bits == work.uploadBits }?.bytes
      ?? adapterBytes * work.rank * Double(work.uploadBits) / 32
  }

  func validate() throws {
    for size in self
    where !(0.001...1).contains(size.rank) || !WorkChoices.knownBits.contains(size.bits)
      || !(1...1e15).contains(size.bytes)
    {
      throw PeatError.badData(
        "uploads: rank must be 0.001 to 1, bits 32, 16, 8 or 4, and bytes 1 to 1e15; found \(size.rank), \(size.bits) and \(size.bytes)."
      )
    }
  }
}

/// Among what a planner may choose a device's work: each list with more than one entry is a branch of a learned planner's action.
public struct WorkChoices: Sendable, Codable, Equatable {
  public var steps = [1.0]
  public var learningRates = [1.0]
  public var ranks = [1.0]
  /// One: the run's own.
  public var uploadBits = [32]

  public init() {}

  /// In how many bits a value of an update can be sent.
  static let knownBits: Set = [32, 16, 8, 4]

  /// The branches by which a controller chooses work.
  public static let branchNames = ["steps", "learningRate", "rank", "uploadBits"]

  /// All that is worth choosing from.
  public static var usual: WorkChoices {
    var result = WorkChoices()
    result.steps = [0.5, 1, 2]
    result.learningRates = [0.5, 1, 2]
    result.ranks = [0.5, 1]
    result.uploadBits = [32, 8]
    return result
  }

  func validate() throws {
    for (name, values, range) in [
      ("steps", steps, 0.01...100.0), ("learningRates", learningRates, 0.001...1000),
      ("ranks", ranks, 0.001...1),
    ] {
      guard !values.isEmpty, values.count <= 64, values.allSatisfy(range.contains),
        values.contains(1), Set(values).count == values.count
      else {
        throw PeatError.badData(
          "work.\(name) is \(values); it must hold 1, the run's own, and up to 63 other numbers between \(range.lowerBound) and \(range.upperBound), each once."
        )
      }
    }
    guard uploadBits.contains(32) || uploadBits.count == 1,
      uploadBits.allSatisfy(Self.knownBits.contains), Set(uploadBits).count == uploadBits.count
    else {
      throw PeatError.badData(
        "work.uploadBits is \(uploadBits); it must hold 32, and may hold 16, 8 and 4, each once; or one of them, the run's own."
      )
    }
  }

  /// Work as it is carried out: where there is nothing to choose from, with the run's own bits.
  func effective(_ work: EdgeWork) -> EdgeWork {
    guard uploadBits.count == 1 else { return work }
    var work = work
    work.uploadBits = uploadBits[0]
    return work
  }

  /// A branch for each list to choose from.
  var branches: [ActionBranch] {
    zip(Self.branchNames, [steps.count, learningRates.count, ranks.count, uploadBits.count])
      .filter { $0.1 > 1 }.map { ActionBranch($0.0, choices: $0.1) }
  }

  /// The work behind the choices of these branches.
  func work(_ choices: UnsafePointer<Int32>) -> EdgeWork {
    var work = EdgeWork()
    var next = 0
    func choose<Value>(_ list: [Value], _ value: inout Value) {
      guard list.count > 1 else { return }
      value = list[min(max(Int(choices[next]), 0), list.count - 1)]
      next += 1
    }
    choose(steps, &work.steps)
    choose(learningRates, &work.learningRate)
    choose(ranks, &work.rank)
    choose(uploadBits, &work.uploadBits)
    return work
  }

  /// Writes the choices that leave the run's own settings.
  func writeOwn(_ choices: UnsafeMutablePointer<Int32>) {
    var next = 0
    func write<Value: Equatable>(_ list: [Value], _ own: Value) {
      guard list.count > 1 else { return }
      choices[next] = Int32(list.firstIndex(of: own) ?? 0)
      next += 1
    }
    write(steps, 1)
    write(learningRates, 1)
    write(ranks, 1)
    write(uploadBits, 32)
  }
}

/// What a device's work does to the progress of a round: our own model, fitted by `calibrate`.
///
///     factor = steps^α · c^β · rank^ρ · (1 − ε if 8 bits or 4)
///
/// c: what the learning rate is multiplied with; steps and rank as shares of the run's own.
public struct WorkEffects: Sendable, Codable, Equatable {
  /// α.
  public var steps = 0.5
  /// ρ.
  public var rank = 0.15
  /// β.
  public var learningRate = 0.5
  /// ε.
  public var rounding = 0.0

  public init() {}

  func validate() throws {
    for (name, value, range) in [
      ("steps", steps, -2...2.0), ("learningRate", learningRate, -2...2), ("rank", rank, -2...2),
      ("rounding", rounding, 0...1),
    ] where !range.contains(value) {
      throw PeatError.badData(
        "learning.work.\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)."
      )
    }
  }

  package func factor(_ work: EdgeWork) -> Double {
    if work == .own { return 1 }
    let powers =
      steps * naturalLogarithm(work.steps) + learningRate * naturalLogarithm(work.learningRate)
      + rank * naturalLogarithm(work.rank)
    return exponential(powers) * (work.uploadBits <= 8 ? 1 - rounding : 1)
  }
}

/// A run's own settings of a device's work, which a planner's choices are multiples of.
public struct WorkSettings: Sendable, Equatable {
  public var localSteps: Int
  /// The adapter's rank; `nil` where its method has none.
  public var rank: Int?

  public init(localSteps: Int, rank: Int?) {
    self.localSteps = localSteps
    self.rank = rank
  }

  public func localSteps(of work: EdgeWork) -> Int {
    max(1, Int((work.steps * Double(localSteps)).rounded()))
  }

  /// `nil` where the method has none.
  public func rank(of work: EdgeWork) -> Int? {
    rank.map { max(1, Int((work.rank * Double($0)).rounded(.up))) }
  }
}

extension RoundPlan.Assignment {
  /// Says what differs from the run's own settings.
  mutating func take(_ work: EdgeWork, _ settings: WorkSettings, choices: WorkChoices) {
    if work.steps != 1 { localSteps = settings.localSteps(of: work) }
    if work.learningRate != 1 { learningRateScale = work.learningRate }
    if work.rank != 1 { trainedRank = settings.rank(of: work) }
    // Also 32, where that was chosen.
    if choices.uploadBits.count > 1 { uploadBits = work.uploadBits }
  }
}
