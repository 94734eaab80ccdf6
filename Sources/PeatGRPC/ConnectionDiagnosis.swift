import NIOCore
import PeatTensor
import Synchronization

/// Why a connection can't be made, where the other side's first bytes or its certificate tell.
final class ConnectionDiagnosis: Sendable {
  enum Finding: Sendable, Equatable {
    /// The coordinator's certificate is not believed.
    case distrusted(String)
    /// This side speaks TLS, the other does not; or the reverse.
    case otherSpeaksPlaintext, otherSpeaksTLS
    /// The other side hung up before it said anything.
    case silence
  }

  private let isPlaintext: Bool
  private let finding = Mutex<Finding?>(nil)

  init(isPlaintext: Bool) { self.isPlaintext = isPlaintext }

  func note(_ new: Finding) {
    finding.withLock { old in
      // What was said before the other side hung up tells more.
      if new == .silence, old != nil { return }
      old = new
    }
  }

  /// The error that says it; `nil` where nothing was found.
  func problem(with address: String) -> PeatError? {
    switch finding.withLock({ $0 }) {
    case .distrusted(let reason):
      .usage(
        "The certificate of the coordinator at \(address) is not to be believed: \(reason). Nothing was sent. Check the "
          + "address, and that token or certificates are of this coordinator.")
    case .otherSpeaksPlaintext:
      .usage(
        "The other side at \(address) does not speak TLS. If it is a coordinator that was started with --insecure and the "
          + "network is protected otherwise, join with --insecure.")
    case .otherSpeaksTLS:
      .usage(
        "The coordinator at \(address) speaks TLS. Leave --insecure out, and give --token or certificates."
      )
    case .silence where isPlaintext:
      .unavailable(
        "The other side at \(address) hung up without a word, as one does that speaks TLS: leave --insecure out if it is a "
          + "coordinator without it.")
    case .silence, nil: nil
    }
  }

  /// A call was answered: what was found before holds no more.
  func clear() { finding.withLock { $0 = nil } }

  /// Watches a new connection.
  @Sendable func watch(_ channel: any Channel) -> EventLoopFuture<Void> {
    finding.withLock { if $0 == .silence { $0 = nil } }
    return channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.addHandler(
        FirstBytes(self, isPlaintext: isPlaintext), position: .first)
    }
  }
}

/// Looks at the first bytes that arrive: TLS begins each record with a type from 20 to 23 and a 3, a server of HTTP/2 in plaintext with
/// the 0 of a short frame's length.
private final class FirstBytes: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let diagnosis: ConnectionDiagnosis
  private let isPlaintext: Bool

  init(_ diagnosis: ConnectionDiagnosis, isPlaintext: Bool) {
    self.diagnosis = diagnosis
    self.isPlaintext = isPlaintext
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if let first = Self.unwrap(data).readableBytesView.first {
      let isTLS = (20...23).contains(first)
      if isPlaintext, isTLS { diagnosis.note(.otherSpeaksTLS) }
      if !isPlaintext, !isTLS { diagnosis.note(.otherSpeaksPlaintext) }
    }
    context.fireChannelRead(data)
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    diagnosis.note(.silence)
    context.fireChannelInactive()
  }

  private static func unwrap(_ data: NIOAny) -> ByteBuffer { unwrapInboundIn(data) }
}
