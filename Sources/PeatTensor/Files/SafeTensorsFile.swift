import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A safetensors file on disk, mapped into memory: tensors are read without copying where they can be.
///
/// float32 tensors share the file's pages, so several processes that open the same model hold it once.
public struct SafeTensorsFile: Sendable {
  public let url: URL
  public let entries: [String: SafeTensorsEntry]
  public let metadata: [String: String]
  private let map: MappedFile

  public init(contentsOf url: URL) throws {
    self.url = url
    map = try MappedFile(url)
    (entries, metadata) = try SafeTensors.parseHeader(of: map.bytes, name: url.path)
  }

  public var names: [String] { entries.keys.sorted() }

  /// What the file takes, header included.
  public var byteCount: Int { map.bytes.count }

  /// One tensor as float32; throws if there is none of this name.
  public func tensor(named name: String) throws -> Tensor {
    guard let entry = entries[name] else {
      throw PeatError.badData(
        "safetensors: '\(url.path)' has no tensor '\(name)'. "
          + suggestion(for: name, among: entries.keys))
    }
    if entry.type == .float32, !entry.range.isEmpty, let base = map.bytes.baseAddress {
      let start = UnsafeMutableRawPointer(mutating: base + entry.range.lowerBound)
      if Int(bitPattern: start) % MemoryLayout<Float>.alignment == 0 {
        let count = entry.range.count / 4
        let storage = TensorStorage(
          borrowing: start.bindMemory(to: Float.self, capacity: count), count: count, from: map)
        return Tensor(shape: entry.shape, storage: storage)
      }
    }
    return try SafeTensors.read(name, entry, from: map.bytes, name: url.path)
  }

  /// All tensors as float32.
  public func tensors() throws -> NamedTensors {
    var result: NamedTensors = [:]
    for name in entries.keys { result[name] = try tensor(named: name) }
    return result
  }

  /// Gives the pages that hold one tensor back to the system; they are read again when somebody looks.
  package func releasePages(of name: String) {
    if let range = entries[name]?.range { map.releasePages(range) }
  }

  /// The stored bytes of one tensor.
  package func withBytes<Result>(
    of entry: SafeTensorsEntry, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(map) {
      try body(UnsafeRawBufferPointer(rebasing: map.bytes[entry.range]))
    }
  }
}

/// A file's bytes in the address space, read-only, until the last reference goes.
package final class MappedFile: @unchecked Sendable {
  package let bytes: UnsafeRawBufferPointer

  package init(_ url: URL) throws {
    func failure(_ what: String) -> PeatError {
      .inputOutput("Can't read '\(url.path)': \(what): \(String(cString: strerror(errno))).")
    }
    let descriptor = open(url.path, O_RDONLY | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure("open") }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure("stat") }
    guard status.st_mode & S_IFMT == S_IFREG else {
      let isFolder = status.st_mode & S_IFMT == S_IFDIR
      throw PeatError.inputOutput(
        "'\(url.path)' is a \(isFolder ? "folder" : "pipe, a socket or a device"); a file was expected."
      )
    }
    let size = Int(status.st_size)
    guard size > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
      address != MAP_FAILED
    else { throw failure("mmap") }
    bytes = UnsafeRawBufferPointer(start: address, count: size)
  }

  /// Gives back the whole pages in a range of the file.
  func releasePages(_ range: Range<Int>) {
    guard let base = bytes.baseAddress else { return }
    let page = Int(getpagesize())
    let first = (range.lowerBound + page - 1) / page * page
    let end = range.upperBound / page * page
    guard first < end else { return }
    madvise(UnsafeMutableRawPointer(mutating: base + first), end - first, MADV_DONTNEED)
  }

  /// Gives back the pages that a look at a range brought in, which the system does 64 KiB at a time.
  package func releasePages(around range: Range<Int>) {
    let step = 1 << 16
    releasePages(
      range.lowerBound / step * step..<min((range.upperBound + step - 1) / step * step, bytes.count)
    )
  }

  deinit {
    if let base = bytes.baseAddress {
      munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
    }
  }
}
