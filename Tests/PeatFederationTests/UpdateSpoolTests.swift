import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("Incoming updates on the disk") struct UpdateSpoolTests {
  private let bytes = Data((0..<1000).map { UInt8($0 % 251) })
  private var payload: BlobReference { BlobReference(digest: Digest(of: bytes), bytes: 1000) }

  @Test func `what was put aside is out of reach of whoever sends under the same name`() throws {
    try withTemporaryFolder { folder in
      let spool = try UpdateSpool(folder.appendingPathComponent("updates"), isKept: true)
      try spool.append(bytes, to: spool.incoming(payload, from: "a"), at: 0)
      let closed = try spool.close(payload, from: "a", ticket: "one")
      let mapped = try Data(contentsOf: closed, options: .alwaysMapped)
      // The same client says that the same update is shorter, and begins anew.
      #expect(spool.arrived(payload, from: "a") == nil)
      try spool.append(Data([7, 7]), to: spool.incoming(payload, from: "a"), at: 0)
      #expect(mapped == bytes)
      let second = try spool.close(payload, from: "a", ticket: "two")
      #expect(second != closed)
      try spool.accept(payload, in: closed, from: "a")
      #expect(try Data(contentsOf: spool.file(of: payload)) == bytes)
    }
  }

  @Test func `one that was put aside when the coordinator died is there when it is started again`()
    throws
  {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("updates")
      let spool = try UpdateSpool(place, isKept: true)
      try spool.append(bytes, to: spool.incoming(payload, from: "a"), at: 0)
      _ = try spool.close(payload, from: "a", ticket: "one")
      let again = try UpdateSpool(place, isKept: true)
      #expect(again.arrived(payload, from: "a")?.0 == 1000)
      // Without a run that is kept nothing is of use.
      let other = try UpdateSpool(place)
      #expect(try FileManager.default.contentsOfDirectory(atPath: other.folder.path).isEmpty)
    }
  }
}
