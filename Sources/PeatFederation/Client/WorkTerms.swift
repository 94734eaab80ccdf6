import PeatTensor

/// What a run asks of a device, said once before anything of it is fetched.
public struct WorkTerms: Sendable, Equatable {
  /// The first task that the device was given.
  public var task: TrainingTask
  /// How many rounds the run has.
  public var rounds: Int
  /// Bytes of the emulator that are not here yet. The round's adapter, `task.adapter.bytes`, comes on top in each round.
  public var emulatorBytes: Int
  /// What the device measured of itself, where the coordinator asked for it.
  public var rates: DeviceRates

  public init(task: TrainingTask, rounds: Int, emulatorBytes: Int, rates: DeviceRates) {
    self.task = task
    self.rounds = rounds
    self.emulatorBytes = emulatorBytes
    self.rates = rates
  }
}
