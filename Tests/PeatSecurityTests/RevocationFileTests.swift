import Foundation
import PeatSecurity
import PeatTensor
import Synchronization
import TestSupport
import Testing

@Suite("RevocationFile") struct RevocationFileTests {
  private final class Heard: Sendable {
    private let values = Mutex<[String]>([])
    var all: [String] { values.withLock { $0 } }
    func add(_ value: String) { values.withLock { $0.append(value) } }
  }

  static let serial = "acdf01234567890abcdef01234567890abcdef12"

  static let spellings = [
    serial, serial.uppercased(), "serial=\(serial.uppercased())", "Serial = \(serial)",
    "0x\(serial)", "00:\(serial)", "  \(serial)\t", "\(serial) # of ada", "\u{FEFF}\(serial)",
    stride(from: 0, to: 40, by: 2).map { offset in
      let start = serial.index(serial.startIndex, offsetBy: offset)
      return String(serial[start..<serial.index(start, offsetBy: 2)])
    }.joined(separator: ":"),
  ]

  @Test(arguments: spellings) func `a serial number is read as it may be written`(
    spelling: String
  ) throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("revoked.txt")
      for end in ["\n", "\r\n", ""] {
        try Data("# taken back\(end.isEmpty ? "\n" : end)\n\(spelling)\(end)".utf8).write(to: file)
        let list = try RevocationFile(file)
        #expect(list.contains(Self.serial) && list.contains(Self.serial.uppercased()))
        #expect(!list.contains("01"))
      }
    }
  }

  @Test(arguments: [
    "serial", "serial=", "ada lovelace", "subject=CN = ada", "-----BEGIN CERTIFICATE-----", "0x",
    "12 (0xc)", "serial=xyz", "\(serial)\(serial)", "01,02",
  ])
  func `a line that is no serial number is an error that names it`(line: String) throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("revoked.txt")
      try Data("01\n\n\(line)\n".utf8).write(to: file)
      expectError(.badData, "revoked.txt', line 3", "no serial number") {
        _ = try RevocationFile(file)
      }
    }
  }

  @Test func `a file that is spoilt while it is in use is told, and what was read holds`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("revoked.txt")
      let heard = Heard()
      func write(_ text: String, second: Double) throws {
        try Data(text.utf8).write(to: file)
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSince1970: second)], ofItemAtPath: file.path)
      }
      try write("01\n", second: 1)
      let list = try RevocationFile(file) { heard.add($0) }
      #expect(list.contains("01") && !list.contains("02") && heard.all.isEmpty)
      try write("01\nwhat\n02\n", second: 2)
      #expect(list.contains("01") && !list.contains("02"))
      #expect(heard.all.count == 1)
      #expect(heard.all.first?.contains("line 2") == true, "\(heard.all)")
      try write("01\n02\n", second: 3)
      #expect(list.contains("01") && list.contains("02"))
      try FileManager.default.removeItem(at: file)
      #expect(list.contains("02") && heard.all.count == 2)
    }
  }
}
