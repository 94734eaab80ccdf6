import Foundation
import PeatTensor

/// The adapter that a round begins with, as the bytes that every client fetches.
///
/// As `f32` it is a safetensors file of its tensors. In fewer bits it is one of a single tensor `packed`, as an update's, of the values themselves,
/// not of differences: who joins late needs nothing else. Its metadata say how it is written (`fedpeat.encoding`) and names and shapes
/// (`fedpeat.tensors`, a JSON object).
public enum BroadcastAdapter {
  private static let encodingKey = "fedpeat.encoding"
  private static let tensorsKey = "fedpeat.tensors"

  /// The bytes, and the adapter as clients read it from them.
  ///
  /// - Parameter seed: for rounding.
  package static func encode(
    _ adapter: NamedTensors, as encoding: UpdateEncoding, seed: UInt64
  ) throws -> (data: Data, read: NamedTensors) {
    if encoding.isPlain { return (SafeTensors.encode(adapter), adapter) }
    let zero = adapter.mapValues { Tensor(zeros: $0.shape) }
    let bytes = try encoding.packed(adapter, from: zero, seed: seed)
    let data = SafeTensors.encode(
      [UpdateEncoding.packedName: .init("U8", [bytes.count], bytes)],
      metadata: try metadata(adapter.mapValues(\.shape), encoding))
    return (data, try bytes.withUnsafeBytes { try encoding.unpacked($0, onto: zero) })
  }

  /// As many bytes as `encode` makes of tensors of these shapes.
  public static func byteCount(_ shapes: [String: [Int]], as encoding: UpdateEncoding) throws -> Int
  {
    if encoding.isPlain { return encoding.byteCount(shapes) }
    let bytes = encoding.packedByteCount(ValueOrder(shapes, rank: nil))
    return SafeTensors.byteCount(
      [UpdateEncoding.packedName: ("U8", [bytes], bytes)], metadata: try metadata(shapes, encoding))
  }

  private static func metadata(
    _ shapes: [String: [Int]], _ encoding: UpdateEncoding
  ) throws -> [String: String] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return [
      encodingKey: encoding.description,
      tensorsKey: String(decoding: try encoder.encode(shapes), as: UTF8.self),
    ]
  }

  /// The adapter from a file that came from a coordinator.
  ///
  /// - Parameter sizeLimit: the most bytes that its values may take as float32.
  /// - Throws: `badData` where the file is not what `encode` makes.
  public static func read(_ file: URL, sizeLimit: Int) throws -> NamedTensors {
    let stored = try SafeTensorsFile(contentsOf: file)
    guard let word = stored.metadata[encodingKey] else {
      return try stored.tensors().copied()
    }
    func bad(_ reason: String) -> PeatError {
      .badData("The round's adapter, sent as '\(word.prefix(60))', \(reason).")
    }
    let encoding = try UpdateEncoding(word: word)
    guard encoding.isLossy, encoding.share == nil else {
      throw bad("can't be: an adapter is sent as f16, bf16, int8 or int4")
    }
    let shapes: [String: [Int]]
    do {
      shapes = try JSONDecoder().decode(
        [String: [Int]].self, from: Data((stored.metadata[tensorsKey] ?? "").utf8))
    } catch { throw bad("does not say which tensors it has (\(describe(error)))") }
    var left = sizeLimit / 4
    for (name, shape) in shapes {
      var count = 1
      for size in shape {
        let (product, overflow) = count.multipliedReportingOverflow(by: size)
        guard size > 0, !overflow else {
          throw bad("gives '\(name.prefix(120))' the impossible shape \(shape)")
        }
        count = product
      }
      guard count <= left else {
        throw bad("takes more than the \(sizeLimit) bytes that this client accepts")
      }
      left -= count
    }
    let expected = encoding.packedByteCount(ValueOrder(shapes, rank: nil))
    guard stored.names == [UpdateEncoding.packedName],
      let entry = stored.entries[UpdateEncoding.packedName], entry.dtype == "U8",
      entry.shape == [expected]
    else {
      throw bad("has other bytes than the \(expected) of its tensors")
    }
    let zero = shapes.mapValues { Tensor(zeros: $0) }
    do { return try stored.withBytes(of: entry) { try encoding.unpacked($0, onto: zero) } } catch {
      throw bad("can't be read: \(error)")
    }
  }
}
