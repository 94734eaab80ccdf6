import Foundation
import PeatTensor
import Synchronization

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// The head of an HTTP answer.
struct HubAnswer: Sendable {
  let status: Int
  let url: URL
  private let headers: [String: String]

  init(_ response: HTTPURLResponse, asked: URL) {
    status = response.statusCode
    url = response.url ?? asked
    var headers: [String: String] = [:]
    for (name, value) in response.allHeaderFields {
      headers["\(name)".lowercased()] = "\(value)"
    }
    self.headers = headers
  }

  subscript(name: String) -> String? { headers[name.lowercased()] }

  var isRedirect: Bool { [301, 302, 303, 307, 308].contains(status) }
}

/// What may go better on another try.
struct PassingFailure: Error {
  let reason: String
  /// How long the server wants to be left alone.
  var wait: Duration?
}

/// HTTP over URLSession, without following redirects, with bodies handed on piece by piece.
///
/// URLSession on Linux does not slow the server down when pieces are taken slowly: what has come waits in memory. Who reads
/// large bodies asks for a part at a time.
final class HubTransport: NSObject, URLSessionDataDelegate, Sendable {
  /// Takes pieces of a body.
  typealias Receiver = @Sendable (Data) throws -> Void

  private struct Transfer {
    var continuation: CheckedContinuation<HubAnswer, any Error>
    /// Looks at the head and says what becomes of the body.
    var accept: @Sendable (HubAnswer) throws -> Receiver
    var asked: URL
    var answer: HubAnswer?
    var receiver: Receiver?
    var failure: (any Error)?
  }

  private let transfers = Mutex<[Int: Transfer]>([:])
  private let session = Mutex<URLSession?>(nil)

  /// - Parameter patience: how long a server may say nothing.
  init(patience: Duration) {
    super.init()
    let configuration = URLSessionConfiguration.ephemeral
    configuration.timeoutIntervalForRequest = Double(patience.components.seconds)
    configuration.httpShouldSetCookies = false
    let queue = OperationQueue()
    queue.maxConcurrentOperationCount = 1
    session.withLock {
      $0 = URLSession(configuration: configuration, delegate: self, delegateQueue: queue)
    }
  }

  /// Lets connections go; a session keeps its delegate alive until then.
  func close() { session.withLock { $0?.invalidateAndCancel() } }

  /// Sends a request and waits for the end of its answer.
  ///
  /// - Throws: `PassingFailure` where the connection was lost, `CancellationError`, and what `accept` and the receiver throw.
  func send(
    _ request: URLRequest, accept: @escaping @Sendable (HubAnswer) throws -> Receiver
  ) async throws -> HubAnswer {
    guard let url = request.url, let task = session.withLock({ $0?.dataTask(with: request) })
    else { preconditionFailure("a request has an address") }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        transfers.withLock {
          $0[task.taskIdentifier] = Transfer(
            continuation: continuation, accept: accept, asked: url)
        }
        // Of a cancelled task nothing is heard if it was never started.
        task.resume()
        if Task.isCancelled { task.cancel() }
      }
    } onCancel: {
      task.cancel()
    }
  }

  func urlSession(
    _ session: URLSession, dataTask task: URLSessionDataTask, didReceive response: URLResponse,
    completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
  ) {
    update(task) { transfer in
      guard let response = response as? HTTPURLResponse else { return }
      let answer = HubAnswer(response, asked: transfer.asked)
      transfer.answer = answer
      transfer.receiver = try transfer.accept(answer)
    }
    completionHandler(.allow)
  }

  func urlSession(_ session: URLSession, dataTask task: URLSessionDataTask, didReceive data: Data) {
    let receiver = transfers.withLock { transfers -> Receiver? in
      guard let transfer = transfers[task.taskIdentifier], transfer.failure == nil else {
        return nil
      }
      return transfer.receiver
    }
    guard let receiver else { return }
    do { try receiver(data) } catch { update(task) { _ in throw error } }
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask,
    willPerformHTTPRedirection response: HTTPURLResponse,
    newRequest: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
  ) {
    // Whoever asked decides: a token must not go to another server.
    completionHandler(nil)
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?
  ) {
    let found = transfers.withLock { $0.removeValue(forKey: task.taskIdentifier) }
    guard let transfer = found else { return }
    if let failure = transfer.failure {
      transfer.continuation.resume(throwing: failure)
    } else if let error {
      transfer.continuation.resume(throwing: HubTransport.reason(error, transfer.asked))
    } else if let answer = transfer.answer {
      transfer.continuation.resume(returning: answer)
    } else {
      transfer.continuation.resume(
        throwing: PassingFailure(reason: "the server's answer is no HTTP"))
    }
  }

  /// Changes a transfer; where the change throws, the transfer ends with that error.
  private func update(_ task: URLSessionTask, _ change: (inout Transfer) throws -> Void) {
    let failed = transfers.withLock { transfers -> Bool in
      guard var transfer = transfers[task.taskIdentifier], transfer.failure == nil else {
        return false
      }
      do { try change(&transfer) } catch { transfer.failure = error }
      transfers[task.taskIdentifier] = transfer
      return transfer.failure != nil
    }
    if failed { task.cancel() }
  }

  private static func reason(_ error: any Error, _ url: URL) -> any Error {
    let error = error as NSError
    guard error.domain == NSURLErrorDomain else { return PassingFailure(reason: "\(error)") }
    switch error.code {
    case NSURLErrorCancelled: return CancellationError()
    case NSURLErrorTimedOut: return PassingFailure(reason: "the server said nothing for too long")
    case NSURLErrorServerCertificateUntrusted, NSURLErrorSecureConnectionFailed,
      NSURLErrorServerCertificateHasBadDate, NSURLErrorServerCertificateHasUnknownRoot:
      return PeatError.unavailable(
        "No secure connection to '\(url.host ?? "?")': \(error.localizedDescription)", cause: error)
    default: return PassingFailure(reason: error.localizedDescription)
    }
  }
}
