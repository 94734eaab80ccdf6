import Crypto
import Foundation
import Synchronization

/// A Hub with one model, and its storage on another port, as the real one has.
///
/// Large files are redirected to the storage and named by their SHA-256; small ones come from the Hub itself and are named as git
/// does. `change` may replace any answer.
package final class FakeHub: Sendable {
  package typealias Change =
    @Sendable (LoopbackServer.Request, LoopbackServer.Response, Int) ->
    LoopbackServer.Response

  package static let commit = "0123456789abcdef0123456789abcdef01234567"
  package static let model = "someone/tiny"

  package let hub: LoopbackServer
  package let storage: LoopbackServer

  /// A small model: weights of 300,000 bytes that never repeat.
  package static let files: [String: Data] = [
    "config.json": Data(#"{"model_type": "llama"}"#.utf8),
    "tokenizer.json": Data(#"{"version": "1.0"}"#.utf8),
    "README.md": Data("---\nlicense: mit\n---\n".utf8),
    "model.safetensors": weights(seed: 1),
    "pytorch_model.bin": Data("a pickle".utf8),
    "1_Pooling/config.json": Data("{}".utf8),
    "onnx/model.onnx": Data("something else".utf8),
  ]

  package static func weights(seed: UInt32) -> Data {
    var state = seed
    return Data(
      (0..<300_000).map { _ in
        state = state &* 1_664_525 &+ 1_013_904_223
        return UInt8(truncatingIfNeeded: state >> 24)
      })
  }

  /// - Parameters:
  ///   - files: by name.
  ///   - listed: names that the API lists, where they are others.
  ///   - knowsRanges: whether a part of a file can be had.
  ///   - change: is given a request, the answer to it, and how many requests with that method and path came before.
  package init(
    files: [String: Data] = FakeHub.files, listed: [String]? = nil, commit: String = FakeHub.commit,
    knowsRanges: Bool = true, change: @escaping Change = { _, response, _ in response }
  ) throws {
    let counts = Counts()
    @Sendable func changed(
      _ request: LoopbackServer.Request, _ response: LoopbackServer.Response
    ) -> LoopbackServer.Response {
      change(request, response, counts.next("\(request.method) \(request.path)"))
    }
    let storage = try LoopbackServer { request in
      guard request.path.hasPrefix("/blob/"), let content = files[String(request.path.dropFirst(6))]
      else { return changed(request, .init(status: 404)) }
      return changed(request, FakeHub.content(content, request, knowsRanges))
    }
    let address = storage.url
    self.storage = storage
    hub = try LoopbackServer { request in
      changed(
        request,
        FakeHub.answer(
          request, files, listed ?? files.keys.sorted(), commit, knowsRanges, storage: address))
    }
  }

  deinit {
    hub.stop()
    storage.stop()
  }

  package static func sha256(_ data: Data) -> String {
    SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
  }

  package static func gitName(_ data: Data) -> String {
    Insecure.SHA1.hash(data: Data("blob \(data.count)\0".utf8) + data)
      .map { String(format: "%02x", $0) }.joined()
  }

  private static func answer(
    _ request: LoopbackServer.Request, _ files: [String: Data], _ listed: [String],
    _ commit: String, _ knowsRanges: Bool, storage: URL
  ) -> LoopbackServer.Response {
    let api = "/api/models/\(model)/revision/"
    if request.path.hasPrefix(api) {
      guard
        ["main", "v1", "refs%2Fpr%2F1", commit].contains(String(request.path.dropFirst(api.count)))
      else { return .init(status: 404, headers: ["X-Error-Code": "RevisionNotFound"]) }
      let body: [String: Any] = [
        "id": model, "sha": commit, "siblings": listed.map { ["rfilename": $0] },
      ]
      return .init(body: (try? JSONSerialization.data(withJSONObject: body)) ?? Data())
    }
    // What newer versions of huggingface_hub ask instead.
    if request.path.hasPrefix("/api/models/\(model)/tree/\(commit)") {
      let body = listed.map { name in
        var entry: [String: Any] = ["type": "file", "path": name]
        if let content = files[name] {
          entry["size"] = content.count
          entry["oid"] = gitName(content)
          if name.hasSuffix(".safetensors") {
            entry["lfs"] = ["oid": sha256(content), "size": content.count, "pointerSize": 134]
          }
        }
        return entry
      }
      return .init(
        headers: ["Content-Type": "application/json"],
        body: (try? JSONSerialization.data(withJSONObject: body)) ?? Data())
    }
    let resolve = "/\(model)/resolve/\(commit)/"
    guard request.path.hasPrefix(resolve) else {
      return .init(status: 404, headers: ["X-Error-Code": "RepoNotFound"])
    }
    let name = String(request.path.dropFirst(resolve.count))
    guard let content = files[name] else {
      return .init(status: 404, headers: ["X-Error-Code": "EntryNotFound"])
    }
    guard name.hasSuffix(".safetensors") else {
      var response = FakeHub.content(content, request, knowsRanges)
      response.headers["ETag"] = "\"\(gitName(content))\""
      response.headers["X-Repo-Commit"] = commit
      return response
    }
    return .init(
      status: 302,
      headers: [
        "Location": "\(storage)/blob/\(name)", "X-Repo-Commit": commit,
        "X-Linked-Etag": "\"\(sha256(content))\"", "X-Linked-Size": "\(content.count)",
      ])
  }

  private static func content(
    _ content: Data, _ request: LoopbackServer.Request, _ knowsRanges: Bool
  ) -> LoopbackServer.Response {
    guard knowsRanges, let range = request.headers["range"] else { return .init(body: content) }
    let ends = range.dropFirst("bytes=".count).split(separator: "-").compactMap { Int($0) }
    guard ends.count == 2, ends[0] < content.count else { return .init(status: 416) }
    let last = min(ends[1], content.count - 1)
    return .init(
      status: 206,
      headers: ["Content-Range": "bytes \(ends[0])-\(last)/\(content.count)"],
      body: content[ends[0]...last])
  }

  private final class Counts: Sendable {
    private let counts = Mutex<[String: Int]>([:])
    func next(_ key: String) -> Int {
      counts.withLock { counts in
        defer { counts[key, default: 0] += 1 }
        return counts[key, default: 0]
      }
    }
  }
}
