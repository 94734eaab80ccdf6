import Foundation

/// The header entry of one tensor in a safetensors file.
public struct SafeTensorsEntry: Sendable, Equatable {
  /// The format's name for the values' type, such as "F32".
  public let dtype: String
  public let shape: [Int]
  /// Where the values lie, in bytes from the start of the file.
  public let range: Range<Int>

  /// How the values are stored; `nil` where they are of a type that no weight of ours has, such as a mask's.
  public var type: StorageType? { StorageType(rawValue: dtype) }

  /// Whether the values are float64, which are read as float32 and never written.
  var isDouble: Bool { dtype == Self.double }
  static let double = "F64"

  /// Whether the values can be weights.
  package var holdsWeights: Bool { type != nil || isDouble }
}

/// Reads and writes safetensors: an 8-byte little-endian header length, a JSON header, then the values.
///
/// Format: <https://github.com/huggingface/safetensors#format>.
public enum SafeTensors {
  /// Longest header accepted, as in the reference implementation (100 MB).
  static let headerLimit = 100_000_000

  /// Bytes per value of the format's other types: those of masks and counters, which some checkpoints carry along.
  private static let otherWidths = [
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "I32": 4,
    "U32": 4, "I64": 8, "U64": 8, "F64": 8,
  ]

  /// Parses and checks a header against the size of the file it stands in.
  static func parseHeader(
    of bytes: UnsafeRawBufferPointer, name: String
  ) throws -> (entries: [String: SafeTensorsEntry], metadata: [String: String]) {
    func bad(_ what: String) -> PeatError {
      .badData(
        "safetensors: '\(name)' \(what). The file is damaged or not a safetensors file; "
          + "fetch or write it again.")
    }
    guard bytes.count >= 8 else {
      throw bad("has \(bytes.count) bytes, fewer than the 8 of a header length")
    }
    let length64 = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard length64 <= UInt64(headerLimit), Int(length64) <= bytes.count - 8 else {
      throw bad(
        "states a header of \(length64) bytes, but only \(bytes.count - 8) follow (truncated, or not safetensors)"
      )
    }
    let length = Int(length64)
    let header = Data(bytes[8..<8 + length])
    let names = try duplicateKeyCheck(header, bad)
    let parsed: [String: HeaderValue]
    do { parsed = try JSONDecoder().decode([String: HeaderValue].self, from: header) } catch {
      throw bad("has a header that can't be understood (\(describe(error)))")
    }
    guard parsed.count == names else { throw bad("names a tensor twice in its header") }
    var metadata: [String: String] = [:]
    var entries: [String: SafeTensorsEntry] = [:]
    let start = 8 + length
    let available = bytes.count - start
    for (key, value) in parsed {
      switch value {
      case .metadata(let table):
        guard key == "__metadata__" else {
          throw bad("has no dtype, shape and data_offsets for '\(key)'")
        }
        metadata = table
      case .tensor(let info):
        // Of a type that is not known only the place can be checked.
        let width = StorageType(rawValue: info.dtype)?.width ?? otherWidths[info.dtype]
        // Sizes of 0 are left out at first: the others must not overflow beside them either.
        var count = 1
        for size in info.shape where size != 0 {
          let (product, overflow) = count.multipliedReportingOverflow(by: size)
          guard size > 0, !overflow else {
            throw bad("gives '\(key)' the impossible shape \(info.shape)")
          }
          count = product
        }
        if info.shape.contains(0) { count = 0 }
        let (size, overflow) = count.multipliedReportingOverflow(by: width ?? 1)
        guard info.dataOffsets.count == 2 else { throw bad("has no begin and end for '\(key)'") }
        let begin = info.dataOffsets[0]
        let end = info.dataOffsets[1]
        guard !overflow, begin >= 0, begin <= end, end <= available else {
          throw bad(
            "places '\(key)' at bytes \(begin)..<\(end) of \(available) that are there (truncated?)"
          )
        }
        guard width == nil || end - begin == size else {
          throw bad(
            "gives '\(key)' \(end - begin) bytes, but shape \(info.shape) in \(info.dtype) takes \(size)"
          )
        }
        entries[key] = SafeTensorsEntry(
          dtype: info.dtype, shape: info.shape, range: start + begin..<start + end)
      }
    }
    var expected = start
    for entry in entries.values.sorted(by: {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }) {
      guard entry.range.lowerBound == expected else {
        throw bad("has tensors that overlap or leave a gap at byte \(expected)")
      }
      expected = entry.range.upperBound
    }
    guard expected == bytes.count else {
      throw bad("has \(bytes.count - expected) bytes after its last tensor")
    }
    return (entries, metadata)
  }

  /// Copies one tensor's values out of raw bytes, as float32.
  ///
  /// - Parameters:
  ///   - key: the tensor's name, and `name` the file's, for errors.
  static func read(
    _ key: String, _ entry: SafeTensorsEntry, from bytes: UnsafeRawBufferPointer, name: String
  ) throws -> Tensor {
    let tensor = Tensor(uninitialized: entry.shape)
    let source = UnsafeRawBufferPointer(rebasing: bytes[entry.range])
    let target = tensor.pointer
    if entry.isDouble {
      for i in 0..<tensor.count {
        let bits = source.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self)
        target[i] = Float(Double(bitPattern: UInt64(littleEndian: bits)))
      }
      return tensor
    }
    guard let type = entry.type else {
      let known = (StorageType.allCases.map(\.rawValue) + [SafeTensorsEntry.double])
        .joined(separator: ", ")
      throw PeatError.badData(
        "safetensors: '\(name)' stores '\(key)' as \(entry.dtype); this program reads \(known).")
    }
    switch type {
    case .float32:
      UnsafeMutableRawBufferPointer(start: target, count: source.count).copyMemory(from: source)
    case .float16:
      for i in 0..<tensor.count {
        let bits = source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
        target[i] = Float(float16: UInt16(littleEndian: bits))
      }
    case .bfloat16:
      for i in 0..<tensor.count {
        let bits = source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
        target[i] = Float(bfloat16: UInt16(littleEndian: bits))
      }
    }
    return tensor
  }

  /// The tensors in a block of safetensors bytes, as float32. `name` is used in errors.
  public static func decode(_ data: Data, from name: String) throws -> NamedTensors {
    try data.withUnsafeBytes { bytes in
      let (entries, _) = try parseHeader(of: bytes, name: name)
      return try entries.reduce(into: [:]) { tensors, item in
        tensors[item.key] = try read(item.key, item.value, from: bytes, name: name)
      }
    }
  }

  /// The tensors as a block of safetensors bytes, sorted by name.
  public static func encode(
    _ tensors: NamedTensors, as type: StorageType = .float32, metadata: [String: String] = [:]
  ) -> Data {
    var data = Data()
    func append(_ bytes: UnsafeRawBufferPointer) { data.append(contentsOf: bytes) }
    emit(tensors, as: { _ in type }, metadata: metadata, to: append)
    return data
  }

  /// Values as they are stored, of any of the format's types.
  public struct Raw: Sendable {
    public var dtype: String
    public var shape: [Int]
    /// Little-endian.
    public var bytes: Data

    public init(_ dtype: String, _ shape: [Int], _ bytes: Data) {
      self.dtype = dtype
      self.shape = shape
      self.bytes = bytes
    }
  }

  /// Stored values as a block of safetensors bytes, sorted by name.
  public static func encode(
    _ tensors: [String: Raw], metadata: [String: String] = [:]
  ) -> Data {
    let sorted = tensors.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    var data = header(
      sorted.map { ($0.key, $0.value.dtype, $0.value.shape, $0.value.bytes.count) },
      metadata: metadata)
    for (_, tensor) in sorted { data.append(tensor.bytes) }
    return data
  }

  /// As many bytes as `encode` makes of values of these types and shapes.
  package static func byteCount(
    _ tensors: [String: (dtype: String, shape: [Int], bytes: Int)],
    metadata: [String: String] = [:]
  ) -> Int {
    let sorted = tensors.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    return header(
      sorted.map { ($0.key, $0.value.dtype, $0.value.shape, $0.value.bytes) }, metadata: metadata
    ).count + sorted.reduce(0) { $0 + $1.value.bytes }
  }

  /// Length and JSON header of tensors in their order.
  private static func header(
    _ tensors: [(name: String, dtype: String, shape: [Int], bytes: Int)],
    metadata: [String: String]
  ) -> Data {
    var items: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0)):\(quoted($1))" }
      items.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var offset = 0
    for tensor in tensors {
      let end = offset + tensor.bytes
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      items.append(
        "\(quoted(tensor.name)):{\"dtype\":\"\(tensor.dtype)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var header = Array("{\(items.joined(separator: ","))}".utf8)
    while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
    return withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) } + Data(header)
  }

  /// Writes the tensors to a file, whole or not at all.
  public static func write(
    _ tensors: NamedTensors, to url: URL, as type: StorageType = .float32,
    metadata: [String: String] = [:]
  ) throws {
    try write(tensors, to: url, as: { _ in type }, metadata: metadata)
  }

  /// What is written at a time.
  private static let pieceBytes = 1 << 20

  /// Writes the tensors to a file, each in a type of its own.
  ///
  /// - Parameter raw: others, as they are stored.
  public static func write(
    _ tensors: NamedTensors, raw: [String: Raw] = [:], to url: URL,
    as type: (String) -> StorageType, metadata: [String: String] = [:]
  ) throws {
    try AtomicOutput.write(to: url) { handle in
      func append(_ bytes: UnsafeRawBufferPointer) throws {
        // In pieces: a copy of a whole matrix would be much memory.
        for start in stride(from: 0, to: bytes.count, by: pieceBytes) {
          let piece = bytes[start..<min(start + pieceBytes, bytes.count)]
          try handle.write(contentsOf: Data(UnsafeRawBufferPointer(rebasing: piece)))
        }
      }
      try emit(tensors, raw: raw, as: type, metadata: metadata, to: append)
    }
  }

  /// Writes a tensor's values in 16 bits each.
  private static func emit(
    _ tensor: Tensor, to write: (UnsafeRawBufferPointer) throws -> Void,
    _ bits: (Float) -> UInt16
  ) rethrows {
    try tensor.withUnsafeBufferPointer { values in
      for start in stride(from: 0, to: values.count, by: pieceBytes / 2) {
        let piece = values[start..<min(start + pieceBytes / 2, values.count)].map(bits)
        try piece.withUnsafeBytes { try write($0) }
      }
    }
  }

  private static func emit(
    _ tensors: NamedTensors, raw: [String: Raw] = [:], as type: (String) -> StorageType,
    metadata: [String: String], to write: (UnsafeRawBufferPointer) throws -> Void
  ) rethrows {
    let names = (Array(tensors.keys) + raw.keys).sorted {
      $0.utf8.lexicographicallyPrecedes($1.utf8)
    }
    let header = header(
      names.map { name in
        if let own = raw[name] { return (name, own.dtype, own.shape, own.bytes.count) }
        let shape = tensors[name]?.shape ?? []
        return (name, type(name).rawValue, shape, shape.reduce(type(name).width, *))
      }, metadata: metadata)
    try header.withUnsafeBytes { try write($0) }
    for name in names {
      if let own = raw[name] {
        try own.bytes.withUnsafeBytes { try write($0) }
        continue
      }
      guard let tensor = tensors[name] else { continue }
      switch type(name) {
      case .float32: try tensor.withUnsafeBufferPointer { try write(UnsafeRawBufferPointer($0)) }
      case .float16: try emit(tensor, to: write) { $0.float16Bits.littleEndian }
      case .bfloat16: try emit(tensor, to: write) { $0.bfloat16Bits.littleEndian }
      }
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where scalar.value < 0x20:
        let hex = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

private enum HeaderValue: Decodable {
  struct Info: Decodable {
    let dtype: String
    let shape: [Int]
    let dataOffsets: [Int]

    enum CodingKeys: String, CodingKey {
      case dtype
      case shape
      case dataOffsets = "data_offsets"
    }
  }
  case tensor(Info)
  case metadata([String: String])

  init(from decoder: any Decoder) throws {
    if decoder.codingPath.last?.stringValue == "__metadata__" {
      self = .metadata(try decoder.singleValueContainer().decode([String: String].self))
    } else {
      self = .tensor(try Info(from: decoder))
    }
  }
}

/// How many keys the top-level object of `json` has, counted before a dictionary could merge equal ones.
private func duplicateKeyCheck(_ json: Data, _ bad: (String) -> PeatError) throws -> Int {
  var depth = 0
  var keys = 0
  var inString = false
  var escaped = false
  for byte in json {
    if inString {
      if escaped {
        escaped = false
      } else if byte == UInt8(ascii: "\\") {
        escaped = true
      } else if byte == UInt8(ascii: "\"") {
        inString = false
      }
      continue
    }
    switch byte {
    case UInt8(ascii: "\""): inString = true
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      depth += 1
      guard depth <= 8 else { throw bad("has a header nested too deeply") }
    case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
    case UInt8(ascii: ":") where depth == 1: keys += 1
    default: break
    }
  }
  return keys
}

/// A type as people say it.
private func inWords(_ type: Any.Type) -> String {
  let name = "\(type)"
  if name.hasPrefix("Array") { return "a list" }
  if name.hasPrefix("Dictionary") { return "a table of keys and values" }
  return switch name {
  case "Int", "UInt", "Int32", "UInt64": "a whole number"
  case "Double", "Float": "a number"
  case "String": "a text"
  case "Bool": "true or false"
  default: name
  }
}

/// What a decoding error says, in one line without a full stop.
package func describe(_ error: any Error) -> String {
  let text = description(of: error)
  return text.hasSuffix(".") ? String(text.dropLast()) : text
}

private func description(of error: any Error) -> String {
  func path(_ context: DecodingError.Context) -> String {
    let keys = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
    return keys.isEmpty ? "at the top" : "at " + keys.joined(separator: ".")
  }
  switch error {
  case let error as PeatError: return error.message
  case DecodingError.keyNotFound(let key, let context):
    return "the key '\(key.stringValue)' is missing \(path(context))"
  case DecodingError.typeMismatch(let type, let context):
    return "expected \(inWords(type)) \(path(context))"
  case DecodingError.valueNotFound(let type, let context):
    return "expected \(inWords(type)), found null \(path(context))"
  case DecodingError.dataCorrupted(let context):
    if let inner = context.underlyingError as? PeatError { return inner.message }
    let detail =
      (context.underlyingError as NSError?)?.userInfo["NSDebugDescription"].map { " (\($0))" } ?? ""
    return "\(context.debugDescription)\(detail) \(path(context))"
  default: return error.localizedDescription
  }
}
