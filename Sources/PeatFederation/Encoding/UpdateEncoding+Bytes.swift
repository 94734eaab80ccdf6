import Foundation
import PeatTensor

/// Updates as bytes. A plain one is a safetensors file of the adapter's tensors. Any other is one of a single tensor `packed`, of bytes; names and shapes are
/// those of the broadcast adapter, which both sides have. In its order it holds
///
///     places   with `top-k`: which of the n differences follow, as `SortedPlaces` writes them
///     scales   of integers: bfloat16, one for each group of 64; without `top-k` groups end with their tensor
///     values   little-endian; of two int4 in a byte the first is the low half
///
/// Differences are counted over the tensors in the order of their names' UTF-8, of B column by column, of all others row by row: a low-rank pair's
/// component by component.
extension UpdateEncoding {
  package static let packedName = "packed"

  /// The update as safetensors bytes.
  ///
  /// - Parameters:
  ///   - base: the broadcast adapter, with the same names and shapes.
  ///   - seed: for rounding.
  public func encode(
    _ tensors: NamedTensors, from base: NamedTensors, seed: UInt64
  ) throws -> Data {
    try encodeKeepingRest(tensors, from: base, seed: seed).payload
  }

  /// The update as safetensors bytes, and what those lack of it: `tensors` less what is read from the bytes; empty where nothing is lacking.
  package func encodeKeepingRest(
    _ tensors: NamedTensors, from base: NamedTensors, seed: UInt64
  ) throws -> (payload: Data, rest: NamedTensors) {
    if isPlain { return (SafeTensors.encode(tensors), [:]) }
    let bytes = try packed(tensors, from: base, seed: seed)
    let payload = SafeTensors.encode([Self.packedName: .init("U8", [bytes.count], bytes)])
    // Components that are not sent may have a rest, too.
    guard isLossy || rank != nil else { return (payload, [:]) }
    let read = try bytes.withUnsafeBytes {
      try unpacked($0, onto: base.filter { tensors[$0.key] != nil })
    }
    return (payload, tensors.subtracting(read))
  }

  /// The differences in their order, packed.
  func packed(_ tensors: NamedTensors, from base: NamedTensors, seed: UInt64) throws -> Data {
    let order = ValueOrder(tensors.mapValues(\.shape), rank: rank)
    var values: [Float] = []
    values.reserveCapacity(order.count)
    for part in order.parts {
      guard let tensor = tensors[part.name], let old = base[part.name],
        old.shape == tensor.shape
      else {
        throw PeatError.badData("The tuned adapter's '\(part.name)' does not fit the one sent.")
      }
      part.forEachPlace {
        values.append(isDifference ? tensor.pointer[$0] - old.pointer[$0] : tensor.pointer[$0])
      }
    }
    guard values.allSatisfy(\.isFinite) else {
      throw PeatError.badData("The tuned adapter holds a value that is not a finite number.")
    }
    var data = Data()
    if share != nil {
      let places = largest(values)
      data.append(SortedPlaces.encode(places, below: values.count))
      values = places.map { values[$0] }
    }
    var random = SeededRandom(seed: seed, "rounding")
    data.append(
      PackedNumbers.encode(values, as: number, groups: groups(of: order), random: &random))
    return data
  }

  /// Whether what is written is a difference from the broadcast adapter; else the value.
  private var isDifference: Bool { isLossy }

  /// How many of so many differences are sent.
  private func sentCount(of count: Int) -> Int {
    share.map { min(count, max(1, Int(($0 * Double(count)).rounded(.up)))) } ?? count
  }

  /// The places of the largest differences, rising; of equal ones the first.
  private func largest(_ values: [Float]) -> [Int] {
    let sorted = values.indices.sorted {
      let (left, right) = (values[$0].magnitude, values[$1].magnitude)
      return left == right ? $0 < $1 : left > right
    }
    return sorted.prefix(sentCount(of: values.count)).sorted()
  }

  /// The length of each group that shares a scale.
  private func groups(of order: ValueOrder) -> [Int] {
    share == nil
      ? order.parts.flatMap { PackedNumbers.groups(of: $0.count) }
      : PackedNumbers.groups(of: sentCount(of: order.count))
  }

  /// As many bytes as `packed` makes of tensors of these shapes.
  func packedByteCount(_ order: ValueOrder) -> Int {
    let sent = sentCount(of: order.count)
    return (share == nil ? 0 : SortedPlaces.byteCount(of: sent, below: order.count))
      + PackedNumbers.byteCount(of: sent, as: number, groups: groups(of: order).count)
  }

  /// As many bytes as `encode` makes of tensors of these shapes.
  public func byteCount(_ shapes: [String: [Int]]) -> Int {
    if isPlain {
      return SafeTensors.byteCount(
        shapes.mapValues { ("F32", $0, $0.reduce(4, *)) })
    }
    let bytes = packedByteCount(ValueOrder(shapes, rank: rank))
    return SafeTensors.byteCount([Self.packedName: ("U8", [bytes], bytes)])
  }

  // MARK: Reading

  /// The adapter's new values.
  ///
  /// - Throws: `UpdateRefusal` or `badData` where the file is not what this encoding makes of an adapter like `base`.
  public func decode(_ file: SafeTensorsFile, onto base: NamedTensors) throws -> NamedTensors {
    if isPlain { return try file.tensors() }
    guard let entry = file.entries[Self.packedName] else {
      throw UpdateRefusal(
        .missingTensors,
        "The update lacks '\(Self.packedName)'; this round's task asks for \(self), all in one.")
    }
    if let stranger = file.names.first(where: { $0 != Self.packedName }) {
      throw UpdateRefusal(
        .unknownTensors,
        "The update has '\(stranger.prefix(120))' beside '\(Self.packedName)'; this round's task asks for \(self), all in one."
      )
    }
    let expected = packedByteCount(ValueOrder(base.mapValues(\.shape), rank: rank))
    guard entry.dtype == "U8", entry.shape == [expected] else {
      throw UpdateRefusal(
        .wrongShape,
        "'\(Self.packedName)' is \(entry.dtype) \(entry.shape); this round's task asks for U8 [\(expected)], the adapter as \(self)\(rank.map { " of rank \($0)" } ?? "")."
      )
    }
    return try file.withBytes(of: entry) { try unpacked($0, onto: base) }
  }

  /// - Parameter bytes: of the length that belongs to `base`.
  func unpacked(_ bytes: UnsafeRawBufferPointer, onto base: NamedTensors) throws -> NamedTensors {
    let order = ValueOrder(base.mapValues(\.shape), rank: rank)
    let sent = sentCount(of: order.count)
    var places: [Int]?
    var rest = bytes[...]
    if share != nil {
      let length = SortedPlaces.byteCount(of: sent, below: order.count)
      places = try SortedPlaces.decode(
        UnsafeRawBufferPointer(rebasing: rest.prefix(length)), count: sent, below: order.count)
      rest = rest.dropFirst(length)
    }
    var values = try PackedNumbers.decode(
      UnsafeRawBufferPointer(rebasing: rest), count: sent, as: number, groups: groups(of: order))
    if let places {
      var all = Array(repeating: Float(0), count: order.count)
      for (value, place) in zip(values, places) { all[place] = value }
      values = all
    }
    var result = base
    var next = 0
    for part in order.parts {
      guard let old = base[part.name] else { continue }
      let tensor = old.copied()
      part.forEachPlace {
        tensor.pointer[$0] = isDifference ? tensor.pointer[$0] + values[next] : values[next]
        next += 1
      }
      result[part.name] = tensor
    }
    return result
  }
}

/// In what order an adapter's values are counted, and which of them are sent.
struct ValueOrder {
  /// One tensor's.
  struct Part {
    let name: String
    /// What is sent of it, and how long its rows are.
    let rows: Int
    let columns: Int
    let rowLength: Int
    let goesByColumn: Bool

    var count: Int { rows * columns }

    /// The places in the tensor of the values that are sent, in their order.
    func forEachPlace(_ body: (Int) -> Void) {
      if goesByColumn {
        for column in 0..<columns { for row in 0..<rows { body(row * rowLength + column) } }
      } else {
        for row in 0..<rows { for column in 0..<columns { body(row * rowLength + column) } }
      }
    }
  }

  let parts: [Part]
  let count: Int

  init(_ shapes: [String: [Int]], rank: Int?) {
    parts = shapes.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }.map {
      name, shape in
      let rows = shape.first ?? 1
      let columns = shape.dropFirst().reduce(1, *)
      let isUp = LowRankNames.layer(ofUp: name) != nil
      let isDown = LowRankNames.layer(ofDown: name) != nil
      return Part(
        name: name, rows: isDown ? min(rank ?? rows, rows) : rows,
        columns: isUp ? min(rank ?? columns, columns) : columns, rowLength: columns,
        goesByColumn: isUp)
    }
    count = parts.reduce(0) { $0 + $1.count }
  }
}

extension NamedTensors {
  /// Each value less the other's of the same name and place; of names that only this has, as they are.
  func subtracting(_ other: NamedTensors) -> NamedTensors { combined(with: other, sign: -1) }

  /// Each value and the other's of the same name and place; of names that only this has, as they are.
  func adding(_ other: NamedTensors) -> NamedTensors { combined(with: other, sign: 1) }

  private func combined(with other: NamedTensors, sign: Float) -> NamedTensors {
    reduce(into: [:]) { result, item in
      guard let beside = other[item.key], beside.shape == item.value.shape else {
        result[item.key] = item.value
        return
      }
      let tensor = item.value.copied()
      for place in 0..<tensor.count { tensor.pointer[place] += sign * beside.pointer[place] }
      result[item.key] = tensor
    }
  }
}
