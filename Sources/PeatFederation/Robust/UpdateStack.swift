import Foundation
import PeatTensor

/// A round's updates on disk, for rules that need to see all of them at once: a file of float32 values, one update after the other.
///
/// Memory stays bounded whatever the number of updates: it is read in slices of all of them, or one update at a time.
final class UpdateStack {
  /// Values that are in memory at a time when slices are read: 16 MB as float32.
  private static let valuesAtATime = 1 << 22

  /// Names of the tensors in an update, in the order of the file, with their shapes and where they begin.
  let names: [String]
  private let shapes: [String: [Int]]
  private let offsets: [String: Int]
  /// Values of one update.
  let size: Int
  private(set) var count = 0
  private let file: URL
  private let handle: FileHandle

  /// - Parameters:
  ///   - shapes: of what each update holds.
  ///   - folder: where the file is made; it is removed with this object.
  init(_ shapes: [String: [Int]], in folder: URL?) throws {
    self.shapes = shapes
    names = shapes.keys.sorted()
    var (offset, offsets) = (0, [String: Int]())
    for name in names {
      offsets[name] = offset
      offset += shapes[name]?.reduce(1, *) ?? 0
    }
    self.offsets = offsets
    size = offset
    file = (folder ?? FileManager.default.temporaryDirectory)
      .appendingPathComponent("stack-\(UUID().uuidString)")
    do {
      try Data().write(to: file)
      handle = try FileHandle(forUpdating: file)
    } catch { throw Self.failure("make", file, error) }
  }

  deinit {
    try? handle.close()
    try? FileManager.default.removeItem(at: file)
  }

  private static func failure(_ what: String, _ file: URL, _ error: any Error) -> PeatError {
    .inputOutput(
      "Can't \(what) the file '\(file.path)' of a round's updates: \(error.localizedDescription)",
      cause: error)
  }

  /// Adds an update, which has been checked.
  func append(_ tensors: NamedTensors) throws {
    do {
      try handle.seek(toOffset: UInt64(4 * size * count))
      for name in names {
        guard let tensor = tensors[name] else { continue }
        try tensor.withUnsafeBufferPointer { values in
          try handle.write(contentsOf: Data(UnsafeRawBufferPointer(values)))
        }
      }
    } catch { throw Self.failure("write", file, error) }
    count += 1
  }

  private func read(_ update: Int, _ range: Range<Int>) throws -> [Float] {
    let data: Data
    do {
      try handle.seek(toOffset: UInt64(4 * (size * update + range.lowerBound)))
      data = try handle.read(upToCount: 4 * range.count) ?? Data()
    } catch { throw Self.failure("read", file, error) }
    guard data.count == 4 * range.count else {
      throw PeatError.inputOutput("The file '\(file.path)' of a round's updates was cut short.")
    }
    return [Float](unsafeUninitializedCapacity: range.count) { buffer, filled in
      _ = data.copyBytes(to: UnsafeMutableRawBufferPointer(buffer))
      filled = range.count
    }
  }

  /// One tensor of an update.
  func tensor(_ name: String, of update: Int) throws -> Tensor {
    guard let shape = shapes[name], let offset = offsets[name] else {
      throw PeatError(.internalError, "No tensor '\(name)' in a stack of updates.")
    }
    return Tensor(try read(update, offset..<offset + shape.reduce(1, *)), shape: shape)
  }

  /// A whole update.
  func tensors(of update: Int) throws -> NamedTensors {
    try names.reduce(into: [:]) { $0[$1] = try tensor($1, of: update) }
  }

  /// Makes a tensor of each name by a rule from one value of every update to one value.
  ///
  /// - Parameter rule: gets the values in ascending order.
  func combined(_ rule: (UnsafeMutableBufferPointer<Float>) -> Float) throws -> NamedTensors {
    var result = [Float](repeating: 0, count: size)
    let step = max(256, Self.valuesAtATime / max(count, 1))
    var column = [Float](repeating: 0, count: count)
    for start in stride(from: 0, to: size, by: step) {
      let range = start..<min(start + step, size)
      let slices = try (0..<count).map { try read($0, range) }
      column.withUnsafeMutableBufferPointer { column in
        for place in range.indices {
          for update in 0..<count { column[update] = slices[update][place - range.lowerBound] }
          column.sort()
          result[place] = rule(column)
        }
      }
    }
    return names.reduce(into: [:]) { tensors, name in
      guard let shape = shapes[name], let offset = offsets[name] else { return }
      tensors[name] = Tensor(
        Array(result[offset..<offset + shape.reduce(1, *)]), shape: shape)
    }
  }
}
