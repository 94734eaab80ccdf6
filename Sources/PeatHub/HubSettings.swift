import Foundation
import PeatTensor

/// Where the Hub is, where its cache lies and who asks, from the variables that Python's huggingface_hub reads.
public struct HubSettings: Sendable {
  /// `HF_ENDPOINT`; https://huggingface.co without it.
  public var endpoint: URL
  /// `HF_TOKEN`, else what is in `HF_TOKEN_PATH` or `$HF_HOME/token`, where `hf auth login` puts it.
  public var token: String?
  public var cache: HubCache
  /// `HF_HUB_OFFLINE`: nothing is asked over the network.
  public var isOffline: Bool

  public init(endpoint: URL, token: String?, cache: HubCache, isOffline: Bool = false) {
    self.endpoint = endpoint
    self.token = token
    self.cache = cache
    self.isOffline = isOffline
  }

  /// - Parameters:
  ///   - environment: the process's variables.
  ///   - home: the user's folder; as `HOME` says if not given.
  /// - Throws: `usage` where `HF_ENDPOINT` is no address.
  public init(
    environment: [String: String] = ProcessInfo.processInfo.environment, home: URL? = nil
  ) throws {
    let home = home ?? HubSettings.home(in: environment)
    func isTrue(_ name: String) -> Bool {
      ["1", "ON", "YES", "TRUE"].contains(environment[name]?.uppercased())
    }
    let hub = HubSettings.folder(environment, home)
    let address = HubSettings.value("HF_ENDPOINT", in: environment) ?? "https://huggingface.co"
    guard let endpoint = URL(string: address), ["http", "https"].contains(endpoint.scheme),
      endpoint.host?.isEmpty == false, endpoint.query == nil, endpoint.fragment == nil,
      endpoint.user == nil
    else {
      throw PeatError.usage(
        "HF_ENDPOINT is '\(address)'; expected the address of a server, such as https://huggingface.co."
      )
    }
    var token = HubSettings.value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", in: environment)
    if token == nil, !isTrue("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
      let file =
        HubSettings.value("HF_TOKEN_PATH", in: environment).map { HubSettings.path($0, home) }
        ?? hub.appendingPathComponent("token")
      token = try? String(contentsOf: file, encoding: .utf8)
    }
    token = token?.trimmingCharacters(in: .whitespacesAndNewlines)
    self.init(
      endpoint: endpoint, token: token?.isEmpty == false ? token : nil,
      cache: HubCache(environment: environment, home: home),
      isOffline: isTrue("HF_HUB_OFFLINE") || isTrue("TRANSFORMERS_OFFLINE"))
  }

  /// What `~` stands for: `HOME`, as Python has it too; without it what the system says.
  static func home(in environment: [String: String]) -> URL {
    value("HOME", in: environment).map { URL(fileURLWithPath: $0) }
      ?? FileManager.default.homeDirectoryForCurrentUser
  }

  /// `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
  static func folder(_ environment: [String: String], _ home: URL) -> URL {
    if let folder = value("HF_HOME", in: environment) { return path(folder, home) }
    let caches =
      value("XDG_CACHE_HOME", in: environment).map { path($0, home) }
      ?? home.appendingPathComponent(".cache")
    return caches.appendingPathComponent("huggingface")
  }

  /// The first of some variables that says something.
  static func value(_ names: String..., in environment: [String: String]) -> String? {
    names.lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
  }

  static func path(_ text: String, _ home: URL) -> URL {
    if text == "~" { return home }
    if text.hasPrefix("~/") { return home.appendingPathComponent(String(text.dropFirst(2))) }
    return URL(fileURLWithPath: text)
  }
}
