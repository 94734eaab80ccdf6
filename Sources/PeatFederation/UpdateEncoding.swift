import Foundation
import PeatTensor

/// How an update's tensors are written where a plan saves bytes: the first rank components only, and differences from the broadcast
/// adapter in fewer bits.
///
/// Without a rank and bits they are the adapter's values as float32. A low-rank pair's components are rows of A and columns of B (names in
/// `.lora_A.weight` and `.lora_B.weight`, as PEFT has them); those that are not sent are as they were broadcast. Of 16 bits each a difference is a
/// half; of 8 a whole number between −127 and 127 times a scale per component (`NAME.scale`; of other tensors per row), rounded up or down by chance so that the mean is
/// right (Alistarh et al. 2017, *QSGD*, <https://arxiv.org/abs/1610.02132>).
public struct UpdateEncoding: Sendable, Equatable {
  /// Components that are sent; `nil`: all.
  public let rank: Int?
  /// 32, 16 or 8.
  public let bits: Int

  /// - Throws: `badData` where the numbers can't be.
  public init(rank: Int?, bits: Int?) throws {
    if let rank, rank < 1 {
      throw PeatError.badData("trainedRank is \(rank); it must be at least 1.")
    }
    guard [nil, 32, 16, 8].contains(bits) else {
      throw PeatError.badData("uploadBits is \(bits ?? 0); it must be 32, 16 or 8.")
    }
    self.rank = rank
    self.bits = bits ?? 32
  }

  /// Whether tensors are written as they are.
  public var isPlain: Bool { rank == nil && bits == 32 }

  private static let scaleSuffix = ".scale"

  // MARK: Which part of a tensor is sent

  /// Rows and columns of a tensor that are sent.
  private func part(of name: String, _ shape: [Int]) -> (rows: Int, columns: Int) {
    let rows = shape.first ?? 1
    let columns = shape.dropFirst().reduce(1, *)
    guard let rank else { return (rows, columns) }
    if name.hasSuffix(".lora_A.weight") { return (min(rank, rows), columns) }
    if name.hasSuffix(".lora_B.weight") { return (rows, min(rank, columns)) }
    return (rows, columns)
  }

  /// How many scales a tensor has, and which one a value's is: a low-rank pair's by component.
  private static func scales(_ name: String, _ part: (rows: Int, columns: Int)) -> Int {
    name.hasSuffix(".lora_B.weight") ? part.columns : part.rows
  }

  private static func scale(
    of place: Int, _ name: String, _ part: (rows: Int, columns: Int)
  ) -> Int {
    let columns = max(part.columns, 1)
    return name.hasSuffix(".lora_B.weight") ? place % columns : place / columns
  }

  /// Puts back what does not train: the components beyond the rank are then as in `base`.
  package func restore(_ tensor: Tensor, named name: String, from base: Tensor) {
    let part = part(of: name, tensor.shape)
    let columns = tensor.shape.dropFirst().reduce(1, *)
    for row in 0..<(tensor.shape.first ?? 1) {
      let first = row < part.rows ? part.columns : 0
      guard first < columns else { continue }
      (tensor.pointer + row * columns + first).update(
        from: base.pointer + row * columns + first, count: columns - first)
    }
  }

  // MARK: Writing

  /// The update as safetensors bytes.
  ///
  /// - Parameters:
  ///   - base: the broadcast adapter, of the same names and shapes.
  ///   - seed: for rounding.
  public func encode(_ tensors: NamedTensors, from base: NamedTensors, seed: UInt64) throws -> Data
  {
    if isPlain { return SafeTensors.encode(tensors) }
    var random = SeededRandom(seed: seed, "rounding")
    var raw: [String: SafeTensors.Raw] = [:]
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let old = base[name], old.shape == tensor.shape, tensor.isFinite else {
        throw PeatError.badData(
          "The tuned adapter's '\(name)' does not fit the one that was sent, or holds a value that is no finite number."
        )
      }
      let part = part(of: name, tensor.shape)
      let columns = tensor.shape.dropFirst().reduce(1, *)
      var values: [Float] = []
      values.reserveCapacity(part.rows * part.columns)
      for row in 0..<part.rows {
        for column in 0..<part.columns {
          let place = row * columns + column
          values.append(
            bits == 32 ? tensor.pointer[place] : tensor.pointer[place] - old.pointer[place])
        }
      }
      let shape = [part.rows, part.columns]
      switch bits {
      case 32: raw[name] = .init("F32", shape, values.withUnsafeBytes { Data($0) })
      case 16:
        let halves = values.map(\.float16Bits.littleEndian)
        raw[name] = .init("F16", shape, halves.withUnsafeBytes { Data($0) })
      default:
        var scales = Array(repeating: Float(0), count: Self.scales(name, part))
        for place in values.indices {
          let scale = Self.scale(of: place, name, part)
          scales[scale] = max(scales[scale], abs(values[place]) / 127)
        }
        let whole = values.indices.map { place in
          let scale = scales[Self.scale(of: place, name, part)]
          let exact = scale > 0 ? values[place] / scale : 0
          let below = exact.rounded(.down)
          let up: Float = Float(random.uniform()) < exact - below ? 1 : 0
          return Int8(max(-127, min(127, below + up)))
        }
        raw[name] = .init("I8", shape, whole.withUnsafeBytes { Data($0) })
        raw[name + Self.scaleSuffix] = .init(
          "F32", [scales.count], scales.withUnsafeBytes { Data($0) })
      }
    }
    return SafeTensors.encode(raw)
  }

  /// As many bytes as `encode` makes of tensors of these shapes.
  package func byteCount(_ shapes: [String: [Int]]) -> Int {
    var result: [String: (dtype: String, shape: [Int], bytes: Int)] = [:]
    for (name, shape) in shapes {
      let part = part(of: name, shape)
      let count = part.rows * part.columns
      // What is sent as it is keeps its shape.
      let own = isPlain ? shape : [part.rows, part.columns]
      switch bits {
      case 32: result[name] = ("F32", own, 4 * count)
      case 16: result[name] = ("F16", own, 2 * count)
      default:
        result[name] = ("I8", own, count)
        let scales = Self.scales(name, part)
        result[name + Self.scaleSuffix] = ("F32", [scales], 4 * scales)
      }
    }
    return SafeTensors.byteCount(result)
  }

  // MARK: Reading

  /// The adapter's new values.
  ///
  /// - Throws: `badData` where the file's names, shapes or types are not those of this encoding.
  public func decode(_ file: SafeTensorsFile, onto base: NamedTensors) throws -> NamedTensors {
    var result: NamedTensors = [:]
    var expected: Set<String> = []
    for (name, old) in base {
      let part = part(of: name, old.shape)
      let columns = old.shape.dropFirst().reduce(1, *)
      let values = try values(of: name, part, in: file)
      expected.insert(name)
      if bits == 8 { expected.insert(name + Self.scaleSuffix) }
      let tensor = old.copied()
      for row in 0..<part.rows {
        for column in 0..<part.columns {
          let place = row * columns + column
          let value = values[row * part.columns + column]
          tensor.pointer[place] = bits == 32 ? value : tensor.pointer[place] + value
        }
      }
      result[name] = tensor
    }
    if let stranger = file.names.first(where: { !expected.contains($0) }) {
      throw UpdateRefusal(
        .unknownTensors, "The update has '\(stranger.prefix(120))', which the adapter has not.")
    }
    return result
  }

  private func values(
    of name: String, _ part: (rows: Int, columns: Int), in file: SafeTensorsFile
  ) throws -> [Float] {
    let type = bits == 32 ? "F32" : bits == 16 ? "F16" : "I8"
    guard let entry = file.entries[name] else {
      throw UpdateRefusal(.missingTensors, "The update lacks '\(name)'.")
    }
    guard entry.shape == [part.rows, part.columns], entry.dtype == type else {
      throw UpdateRefusal(
        .wrongShape,
        "'\(name)' is \(entry.dtype) \(entry.shape); this round's task asks for \(type) [\(part.rows), \(part.columns)]."
      )
    }
    guard bits == 8 else { return try file.tensor(named: name).scalars }
    let scales = try file.tensor(named: name + Self.scaleSuffix)
    guard scales.shape == [Self.scales(name, part)] else {
      throw UpdateRefusal(
        .wrongShape,
        "'\(name).scale' has shape \(scales.shape), expected [\(Self.scales(name, part))].")
    }
    return file.withBytes(of: entry) { bytes in
      (0..<part.rows * part.columns).map {
        Float(Int8(bitPattern: bytes[$0])) * scales.pointer[Self.scale(of: $0, name, part)]
      }
    }
  }
}
