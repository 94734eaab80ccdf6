import Foundation

/// Refuses work that can't fit into the machine, before it begins.
package enum MemoryDemand {
  /// All of the machine's memory.
  package static var machineBytes: Double { Double(ProcessInfo.processInfo.physicalMemory) }

  /// - Parameters:
  ///   - bytes: what the work needs at least, by estimate.
  ///   - work: what needs it, as the beginning of a sentence.
  ///   - machine: what there is, in bytes.
  ///   - advice: what to change.
  /// - Throws: `usage` where that is more than all of the machine's memory.
  package static func check(
    bytes: Double, for work: String, machine: Double = machineBytes, advice: String
  ) throws {
    guard bytes > machine else { return }
    func gigabytes(_ value: Double) -> String { String(format: "%.3g GB", value / 1e9) }
    throw PeatError.usage(
      "\(work) needs about \(gigabytes(bytes)) of memory; this machine has \(gigabytes(machine)). \(advice)"
    )
  }
}
