import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Pieces of files") struct FilePiecesTests {
  @Test func `pieces are written and read by place`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("file")
      #expect(throws: POSIXError.self) { try FilePieces.read(file, at: 0, count: 1) }
      // It is made by its first piece, and by no other.
      #expect(throws: POSIXError.self) { try FilePieces.write(Data([9]), to: file, at: 3) }
      try FilePieces.write(Data([1, 2, 3, 4]), to: file, at: 0)
      try FilePieces.write(Data([5, 6]), to: file, at: 4)
      #expect(try Data(contentsOf: file) == Data([1, 2, 3, 4, 5, 6]))
      // What a piece that was cut left behind is gone.
      try FilePieces.write(Data([7]), to: file, at: 2)
      #expect(try Data(contentsOf: file) == Data([1, 2, 7]))
      #expect(try FilePieces.read(file, at: 1, count: 2) == Data([2, 7]))
      #expect(try FilePieces.read(file, at: 2, count: 100) == Data([7]))
      #expect(try FilePieces.read(file, at: 3, count: 100).isEmpty)
      try FilePieces.write(Data(), to: file, at: 0)
      #expect(try Data(contentsOf: file).isEmpty)
    }
  }
}
