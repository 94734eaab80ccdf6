import NIOCore

/// Hands the bytes of a connection to the decoder of HTTP/2 behind it frame by frame, each whole.
///
/// The decoder keeps what it can't decode yet in a buffer that grows, twofold each time, where pieces of frames come while earlier ones are still in use, and that never shrinks: megabytes of
/// each connection that ever sent an update. Of whole frames it keeps nothing, and its buffer stays at what one of them takes.
final class WholeFrames: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private var frames = FrameCutter()

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    for frame in frames.take(unwrapInboundIn(data)) {
      context.fireChannelRead(wrapInboundOut(frame))
    }
  }
}

/// Cuts the bytes that a client sends by HTTP/2 into frames (RFC 9113, sections 3.4 and 4.1).
package struct FrameCutter {
  /// What comes before the first frame.
  private static let prefaceBytes = 24
  private static let headerBytes = 9
  /// Frames are no longer where no other size was agreed on.
  private static let largestFrame = 1 << 14

  /// The bytes of a frame that is not here as a whole.
  package private(set) var rest = ByteBuffer()
  private var prefaceLeft = prefaceBytes
  /// Whether what came is no HTTP/2: the decoder is to say so.
  private var isNoHTTP2 = false

  package init() {}

  /// - Returns: the frames that are whole now, in buffers that share their memory.
  package mutating func take(_ bytes: ByteBuffer) -> [ByteBuffer] {
    if isNoHTTP2 { return [bytes] }
    var all = bytes
    if rest.readableBytes > 0 {
      all = ByteBuffer()
      all.reserveCapacity(rest.readableBytes + bytes.readableBytes)
      all.writeImmutableBuffer(rest)
      all.writeImmutableBuffer(bytes)
    }
    var frames: [ByteBuffer] = []
    if prefaceLeft > 0, let preface = all.readSlice(length: min(prefaceLeft, all.readableBytes)) {
      prefaceLeft -= preface.readableBytes
      frames.append(preface)
    }
    while prefaceLeft == 0, let length = all.frameLength {
      guard length <= Self.largestFrame else {
        isNoHTTP2 = true
        frames.append(all)
        rest = ByteBuffer()
        return frames
      }
      guard let frame = all.readSlice(length: Self.headerBytes + length) else { break }
      frames.append(frame)
    }
    // A copy: what was read is not to be held for its last bytes.
    rest = ByteBuffer(bytes: all.readableBytesView)
    return frames
  }
}

extension ByteBuffer {
  /// The length of the frame whose header begins here; `nil` where that is not whole.
  fileprivate var frameLength: Int? {
    guard readableBytes >= 9, let high = getInteger(at: readerIndex, as: UInt8.self),
      let low = getInteger(at: readerIndex + 1, as: UInt16.self)
    else { return nil }
    return Int(high) << 16 | Int(low)
  }
}
