import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("MemoryPlan") struct MemoryPlanTests {
  private func demands(
    method: Adapter.Method?, blocks: [Int] = [0, 1, 2, 3, 4], batch: Int = 8, context: Int = 64,
    threads: Int = 2
  ) throws -> MemoryDemands {
    MemoryDemands(
      model: try checkpoint().model().configuration, method: method, blocks: blocks, batch: batch,
      context: context, threads: threads)
  }

  private func lora() throws -> Adapter.Method { .lora(try LoRAConfiguration(rank: 8, alpha: 16)) }

  @Test func `with much memory nothing is given up, with less one thing after the other`() throws {
    let demands = try demands(method: lora())
    let roomy = try demands.plan(below: 1 << 40, base: 0)
    #expect(roomy.storage == .float32 && !roomy.checkpointing && roomy.accumulation == 1)
    var last = roomy.bytes
    var storages: [WeightStorage] = [.float32]
    for limit in stride(from: roomy.bytes, to: 8_200_000, by: -100_000) {
      guard let plan = try? demands.plan(below: limit, base: 0) else { break }
      #expect(plan.bytes <= limit && plan.bytes <= last + 100_000)
      #expect(8 % plan.accumulation == 0)
      last = plan.bytes
      if plan.storage != storages.last { storages.append(plan.storage) }
    }
    // From the most precise to the least.
    #expect(storages == WeightStorage.allCases.filter(storages.contains))
  }

  @Test func `what was asked for is kept`() throws {
    let demands = try demands(method: lora())
    let plan = try demands.plan(
      below: 1 << 40, storage: .int8, checkpointing: true, accumulation: 2, base: 5)
    #expect(plan.storage == .int8 && plan.checkpointing && plan.accumulation == 2)
    #expect(
      try demands.plan(below: 1 << 40, base: 5).bytes == demands.plan(below: 1 << 40, base: 0).bytes
        + 5)
  }

  @Test func `too little is refused with what it would take`() throws {
    let demands = try demands(method: lora())
    let error = #expect(throws: PeatError.self) { try demands.plan(below: 1_000_000, base: 0) }
    #expect(error?.code == .usage)
    #expect(
      error?.message.contains("1 MB") == true && error?.message.contains("would take") == true)
  }

  @Test func `weights that train stay float32`() throws {
    let full = try demands(method: nil)
    #expect(full.weightBytes(.int4) == full.weightBytes(.float32))
    let ends = try demands(method: .endBlocks, blocks: [0, 4])
    #expect(ends.weightBytes(.int8) < ends.weightBytes(.float32))
    #expect(ends.frozenPrefix == 0)
    #expect(try demands(method: lora(), blocks: [3, 4]).frozenPrefix == 3)
  }
}
