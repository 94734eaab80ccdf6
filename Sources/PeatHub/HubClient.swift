import Foundation
import PeatTensor
import Synchronization

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// Asks a server that speaks the Hub's API.
///
/// Source: <https://huggingface.co/docs/hub/api>, and `file_download.py` of Python's huggingface_hub for the headers.
struct HubClient: Sendable {
  let endpoint: URL
  let token: String?
  let transport: HubTransport
  let patience: HubPatience
  /// Told why something is waited for.
  let onWaiting: @Sendable (String) -> Void

  static let redirectLimit = 8

  /// What a repository holds at a revision.
  struct Repository {
    var commit: String
    var files: [String]
  }

  /// What the server says of a file.
  struct FileFacts {
    /// The name of its blob: a digest.
    var etag: String
    var size: Int
  }

  /// The commit and the names of all files of a model.
  func repository(_ name: HubName) async throws -> Repository {
    struct Information: Decodable {
      struct Sibling: Decodable { var rfilename: String }
      var sha: String?
      var siblings: [Sibling]?
    }
    let url = try address("api/models", name.repository, "revision", escaped(name.revision))
    let body = try await patience.repeated("The list of files of \(name)", onWaiting: onWaiting) {
      try await bytes(url, limit: 32 << 20, name: name)
    }
    let information = try JSONFile.decode(Information.self, from: body, name: url.absoluteString)
    guard let commit = information.sha, HubName.isCommit(commit) else {
      throw PeatError.badData("'\(url)' names no commit of \(name): 'sha' must be 40 digits.")
    }
    let files = (information.siblings ?? []).map(\.rfilename)
    guard files.count <= 100_000 else {
      throw PeatError.badData("\(name) has \(files.count) files; at most 100,000 are looked at.")
    }
    for file in files where !HubName.isPath(file) {
      throw PeatError.badData(
        "\(name) has a file named '\(file.prefix(80))', which would not stay in its folder. Nothing was downloaded."
      )
    }
    return Repository(commit: commit, files: files)
  }

  /// The size and digest of a file, without its content.
  func facts(of file: String, in name: HubName, commit: String) async throws -> FileFacts {
    let url = try address(of: file, in: name, commit: commit)
    let answer = try await patience.repeated(
      "The file '\(file)' of \(name)", onWaiting: onWaiting
    ) {
      // The first redirect leads to where content is stored, and itself says what the Hub knows.
      try await send(url, method: "HEAD", name: name, until: { $0["X-Linked-Etag"] != nil }) { _ in
        { _ in }
      }
    }
    if let other = answer["X-Repo-Commit"], other != commit {
      throw PeatError.badData(
        "The server answers for commit \(other.prefix(40)) of \(name) where \(commit) was asked for."
      )
    }
    guard
      let tag = answer["X-Linked-Etag"] ?? answer["ETag"],
      let size = (answer["X-Linked-Size"] ?? answer["Content-Length"]).flatMap({ Int($0) }),
      size >= 0
    else {
      throw PeatError.badData(
        "The server does not say the size and digest of '\(file)' of \(name) (headers X-Linked-Etag or ETag, "
          + "X-Linked-Size or Content-Length). Is '\(endpoint)' a Hub?")
    }
    let etag = (tag.hasPrefix("W/") ? tag.dropFirst(2) : tag[...])
      .trimmingCharacters(in: CharacterSet(charactersIn: "\""))
    guard BlobDigest(for: etag, size: size) != nil else {
      throw PeatError.badData(
        "The server's tag of '\(file)' of \(name) is '\(etag.prefix(80))'; expected a SHA-256 or a git digest. Without one the "
          + "download can't be checked.")
    }
    return FileFacts(etag: etag, size: size)
  }

  /// Sends a part of a file to a receiver, from byte `start` on, at most `count` bytes.
  ///
  /// - Parameter accept: is told where the answer begins (0 where the server knows no ranges).
  func part(
    of file: String, in name: HubName, commit: String, from start: Int, count: Int,
    _ accept: @escaping @Sendable (Int) throws -> HubTransport.Receiver
  ) async throws {
    let url = try address(of: file, in: name, commit: commit)
    _ = try await send(url, range: start..<(start + count), name: name) { answer in
      guard answer.status == 206 else { return try accept(0) }
      // bytes 100-199/1000
      let range = answer["Content-Range"]?.split(separator: " ").last?.split(separator: "-").first
      guard let begin = range.flatMap({ Int($0) }), begin == start else {
        throw PassingFailure(reason: "the server sent another part than was asked for")
      }
      return try accept(begin)
    }
  }

  /// Sends a request, follows redirects, and turns refusals into errors that say what to do.
  ///
  /// - Parameters:
  ///   - until: a redirect whose head is answer enough.
  ///   - accept: looks at an answer with status 200 or 206.
  private func send(
    _ url: URL, method: String = "GET", range: Range<Int>? = nil, name: HubName,
    until isEnough: @Sendable (HubAnswer) -> Bool = { _ in false },
    accept: @escaping @Sendable (HubAnswer) throws -> HubTransport.Receiver
  ) async throws -> HubAnswer {
    var url = url
    for _ in 0...HubClient.redirectLimit {
      var request = URLRequest(url: url)
      request.httpMethod = method
      request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
      request.setValue("fedpeat", forHTTPHeaderField: "User-Agent")
      if let range {
        request.setValue(
          "bytes=\(range.lowerBound)-\(range.upperBound - 1)", forHTTPHeaderField: "Range")
      }
      if let token, isOwn(url) {
        request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
      }
      let answer = try await transport.send(request) { answer in
        // What is no success has a short body that nobody reads.
        guard (200...206).contains(answer.status) else { return { _ in } }
        return try accept(answer)
      }
      if answer.isRedirect {
        if isEnough(answer) { return answer }
        url = try target(of: answer, from: url)
        continue
      }
      try check(answer, name)
      return answer
    }
    throw PeatError.badData(
      "The server redirects more than \(HubClient.redirectLimit) times for '\(name)'. Is '\(endpoint)' a Hub?"
    )
  }

  private func bytes(_ url: URL, limit: Int, name: HubName) async throws -> Data {
    let body = Box()
    _ = try await send(url, name: name) { _ in
      body.data.withLock { $0 = Data() }
      return { piece in
        try body.data.withLock { data in
          data += piece
          guard data.count <= limit else {
            throw PeatError.badData("'\(url)' answers with more than \(limit >> 20) MB.")
          }
        }
      }
    }
    return body.data.withLock { $0 }
  }

  private final class Box: Sendable { let data = Mutex(Data()) }

  /// Whether a token may go there.
  private func isOwn(_ url: URL) -> Bool {
    url.scheme == endpoint.scheme && url.host == endpoint.host && url.port == endpoint.port
  }

  private func target(of answer: HubAnswer, from url: URL) throws -> URL {
    guard let location = answer["Location"],
      let target = URL(string: location, relativeTo: url)?.absoluteURL, target.host != nil,
      let scheme = target.scheme, ["http", "https"].contains(scheme)
    else { throw PeatError.badData("'\(url)' redirects to no address.") }
    guard url.scheme != "https" || scheme == "https" else {
      throw PeatError.badData("'\(url)' redirects to the unprotected address '\(target)'.")
    }
    return target
  }

  /// Throws for an answer that is no success.
  private func check(_ answer: HubAnswer, _ name: HubName) throws {
    let said = answer["X-Error-Message"].map { " The server says: \($0.prefix(300))" } ?? ""
    switch answer.status {
    case 200...206: return
    case 400..<500 where !isOwn(answer.url):
      // An address that the Hub gave out holds for a while only; the next try asks for a new one.
      throw PassingFailure(
        reason: "the storage at \(answer.url.host ?? "?") answers with status \(answer.status)")
    case 401:
      throw PeatError.usage(
        (token == nil
          ? "There is no public model '\(name.repository)' at \(endpoint). Check the name; a private or gated one needs an "
            + "access token in HF_TOKEN (https://huggingface.co/settings/tokens)."
          : "The server refuses the token in HF_TOKEN (or the one that was saved) for '\(name.repository)'. Check that it is still valid.")
          + said)
    case 403:
      throw PeatError.usage(
        "The model '\(name.repository)' may not be read\(token == nil ? " without a token" : " with this token"). Where it is "
          + "gated, accept its conditions at \(endpoint)/\(name.repository) and put a token of that account into HF_TOKEN."
          + said)
    case 404 where answer["X-Error-Code"] == "RevisionNotFound":
      throw PeatError.usage(
        "'\(name.repository)' has no revision '\(name.revision)'. Name a branch, tag or commit of it, or none for main."
      )
    case 404 where answer["X-Error-Code"] == "EntryNotFound":
      throw PeatError.badData("'\(name.repository)' lists a file that it does not have.\(said)")
    case 404:
      throw PeatError.usage("There is no model '\(name)' at \(endpoint). Check the name.\(said)")
    case 408, 425, 429, 500...599:
      // Of the two forms of Retry-After the one with a date is not used by the Hub.
      let wait = answer["Retry-After"].flatMap { Int($0) }.map { Duration.seconds(max($0, 0)) }
      throw PassingFailure(
        reason: "the server at \(answer.url.host ?? "?") answers with status \(answer.status)",
        wait: wait)
    default:
      throw PeatError.unavailable(
        "The server answers '\(answer.url)' with status \(answer.status).\(said)")
    }
  }

  private func address(of file: String, in name: HubName, commit: String) throws -> URL {
    let path = file.split(separator: "/").map { escaped(String($0)) }.joined(separator: "/")
    return try address(name.repository, "resolve", commit, path)
  }

  private func address(_ parts: String...) throws -> URL {
    let base = endpoint.absoluteString
    let text = ([base.hasSuffix("/") ? String(base.dropLast()) : base] + parts)
      .joined(separator: "/")
    guard let url = URL(string: text) else { throw PeatError.usage("'\(text)' is no address.") }
    return url
  }

  /// One part of a path, with everything escaped that is not plain.
  private func escaped(_ part: String) -> String {
    let plain = CharacterSet(
      charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
    return part.addingPercentEncoding(withAllowedCharacters: plain) ?? part
  }
}
