/// Values that are let go after the forward pass and computed again, to the same bits, when the backward pass asks for
/// them: norms and activation functions are cheap beside the memory that they would hold until then.
///
/// Used by one worker's tape, on its thread.
package final class Recomputation {
  private let compute: (BufferPool) -> Buffer
  private var values: Buffer?

  init(_ compute: @escaping (BufferPool) -> Buffer) { self.compute = compute }

  /// The values, rows and columns as the activation had them.
  func restored(_ pool: BufferPool) -> Buffer {
    if let values { return values }
    let restored = compute(pool)
    values = restored
    return restored
  }

  /// Lets them go again: whoever computed them from its input calls this when all who used them are done.
  func forget() { values = nil }
}
