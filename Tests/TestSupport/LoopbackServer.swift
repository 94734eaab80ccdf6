import Foundation
import Synchronization

/// A small HTTP/1.1 server on a port of this machine, with answers that a test makes up: also broken ones.
package final class LoopbackServer: Sendable {
  package struct Request: Sendable {
    package var method: String
    package var path: String
    /// By name in lower case.
    package var headers: [String: String]
  }

  package struct Response: Sendable {
    package var status = 200
    package var headers: [String: String] = [:]
    package var body = Data()
    /// Ends the connection after so many bytes of the body.
    package var cutAfter: Int?
    /// Says nothing for so long before the body.
    package var silence: Duration = .zero
    /// Bytes of the body sent at a time, with a short pause between them.
    package var piece: Int?

    package init(status: Int = 200, headers: [String: String] = [:], body: Data = Data()) {
      self.status = status
      self.headers = headers
      self.body = body
    }
  }

  private let descriptor: Int32
  package let port: Int
  private let seen = Mutex<[Request]>([])
  private let answer: @Sendable (Request) -> Response

  package var url: URL { URL(string: "http://127.0.0.1:\(port)") ?? URL(fileURLWithPath: "/") }
  package var requests: [Request] { seen.withLock { $0 } }

  package init(_ answer: @escaping @Sendable (Request) -> Response) throws {
    self.answer = answer
    let listening = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    descriptor = listening
    var yes: Int32 = 1
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        bind(listening, pointer, length) == 0 && listen(listening, 64) == 0
          && getsockname(listening, pointer, &length) == 0
      }
    }
    guard bound else { throw POSIXError(.EADDRINUSE) }
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { [weak self] in
      while true {
        let connection = accept(listening, nil, nil)
        guard connection >= 0 else {
          close(listening)
          return
        }
        guard let self else {
          close(connection)
          return
        }
        Thread.detachNewThread { self.serve(connection) }
      }
    }
  }

  /// Ends it; connections that wait are let go.
  package func stop() {
    // The thread that waits for connections closes it: a number closed twice may be another's by then.
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  private func serve(_ connection: Int32) {
    defer { close(connection) }
    guard let request = LoopbackServer.read(connection) else { return }
    seen.withLock { $0.append(request) }
    let response = answer(request)
    var headers = response.headers
    if headers["Content-Length"] == nil { headers["Content-Length"] = "\(response.body.count)" }
    headers["Connection"] = "close"
    var head = "HTTP/1.1 \(response.status) Something\r\n"
    for (name, value) in headers.sorted(by: { $0.key < $1.key }) { head += "\(name): \(value)\r\n" }
    guard LoopbackServer.write(Data((head + "\r\n").utf8), to: connection),
      request.method != "HEAD"
    else { return }
    if response.silence > .zero {
      usleep(UInt32(response.silence / .microseconds(1)))
    }
    let body = response.cutAfter.map { response.body.prefix($0) } ?? response.body
    let piece = response.piece ?? max(body.count, 1)
    var start = body.startIndex
    while start < body.endIndex {
      let end = min(start + piece, body.endIndex)
      guard LoopbackServer.write(body[start..<end], to: connection) else { return }
      start = end
      if response.piece != nil { usleep(2000) }
    }
  }

  private static func read(_ connection: Int32) -> Request? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !bytes.suffix(4).elementsEqual(Array("\r\n\r\n".utf8)) {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0, bytes.count < 1 << 16 else { return nil }
      bytes += buffer[..<count]
    }
    let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
    let words = lines[0].split(separator: " ")
    guard words.count == 3 else { return nil }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] = line[line.index(after: colon)...]
        .trimmingCharacters(in: .whitespaces)
    }
    return Request(method: String(words[0]), path: String(words[1]), headers: headers)
  }

  private static func write(_ data: Data, to connection: Int32) -> Bool {
    data.withUnsafeBytes { bytes in
      var sent = 0
      while sent < bytes.count {
        let count = send(
          connection, bytes.baseAddress.map { $0 + sent }, bytes.count - sent,
          Int32(MSG_NOSIGNAL))
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }
}
