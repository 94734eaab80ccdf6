import NIOCore
import PeatGRPC
import PeatTensor
import Testing

@Suite("Frames of HTTP/2") struct FrameCutterTests {
  private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  private func frame(_ length: Int, _ fill: UInt8) -> [UInt8] {
    [UInt8(length >> 16), UInt8(length >> 8 & 255), UInt8(length & 255), 0, 0, 0, 0, 0, 1]
      + Array(repeating: fill, count: length)
  }

  private func bytes(_ buffer: ByteBuffer) -> [UInt8] { Array(buffer.readableBytesView) }

  @Test func `however bytes come, frames are handed on whole, and nothing is lost`() {
    var random = SeededRandom(seed: 5)
    for _ in 0..<200 {
      let frames = (0..<20).map { number in
        frame([0, 1, 8, 9, 300, 16_384][random.integer(below: 6)], UInt8(number))
      }
      let all = Self.preface + frames.flatMap { $0 }
      var cutter = FrameCutter()
      var found: [[UInt8]] = []
      var place = 0
      while place < all.count {
        let end = min(
          all.count, place + 1 + random.integer(below: [3, 40, 20_000][random.integer(below: 3)]))
        found += cutter.take(ByteBuffer(bytes: all[place..<end])).map(bytes)
        place = end
        #expect(cutter.rest.readableBytes < 9 + 16_384)
      }
      // The preface may come in pieces.
      var before: [UInt8] = []
      while before.count < Self.preface.count { before += found.removeFirst() }
      #expect(before == Self.preface)
      #expect(found == frames)
      #expect(cutter.rest.readableBytes == 0)
    }
  }

  @Test func `what is no frame is handed on as it is, and kept nowhere`() {
    var cutter = FrameCutter()
    #expect(cutter.take(ByteBuffer(bytes: Self.preface)).map(bytes) == [Self.preface])
    let tooLong: [UInt8] = [0, 0x40, 1, 0, 0, 0, 0, 0, 1, 7, 7]
    #expect(cutter.take(ByteBuffer(bytes: tooLong)).map(bytes) == [tooLong])
    #expect(cutter.take(ByteBuffer(bytes: [1, 2, 3])).map(bytes) == [[1, 2, 3]])
    #expect(cutter.rest.readableBytes == 0)
  }
}
