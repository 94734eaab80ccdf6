import PeatTensor

/// A model on the Hugging Face Hub: `ORG/NAME`, or `NAME` for the oldest ones, and which of its revisions.
public struct HubName: Hashable, Sendable, CustomStringConvertible {
  /// `ORG/NAME` or `NAME`.
  public let repository: String
  /// A branch, a tag or a commit.
  public let revision: String

  public static let mainRevision = "main"

  /// Reads `ORG/NAME[@revision]`. Throws `usage` where that is no name the Hub could have given.
  public init(_ text: String) throws {
    let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    try self.init(
      repository: String(parts[0]),
      revision: parts.count > 1 ? String(parts[1]) : HubName.mainRevision)
  }

  public init(repository: String, revision: String) throws {
    guard HubName.isRepository(repository) else {
      throw PeatError.usage(
        "'\(repository)' is no name of a model on the Hub. Expected ORG/NAME, such as openai-community/gpt2: letters, "
          + "digits, '-', '_' and '.', no '--' or '..', none of '-' and '.' at an end, at most 96 characters."
      )
    }
    guard HubName.isRevision(revision) else {
      throw PeatError.usage(
        "'\(revision)' is no revision. Expected a branch, a tag or a commit after the '@', as in \(repository)@main."
      )
    }
    self.repository = repository
    self.revision = revision
  }

  public var description: String {
    revision == HubName.mainRevision ? repository : "\(repository)@\(revision)"
  }

  /// The folder in the cache: `models--ORG--NAME`. No two names share one, since no name has `--` in it.
  public var folderName: String {
    (["models"] + repository.split(separator: "/").map(String.init)).joined(separator: "--")
  }

  /// The name that a folder of the cache belongs to; `nil` for other folders.
  static func repository(ofFolder name: String) -> String? {
    let prefix = "models--"
    guard name.hasPrefix(prefix) else { return nil }
    let repository = String(name.dropFirst(prefix.count)).replacing("--", with: "/")
    return isRepository(repository) ? repository : nil
  }

  /// The rules of `validate_repo_id` in Python's huggingface_hub.
  static func isRepository(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), text.utf8.count <= 96, !text.contains("--"),
      !text.contains(".."), !text.hasSuffix(".git")
    else { return false }
    return parts.allSatisfy { part in
      guard let first = part.first, let last = part.last else { return false }
      return !"-.".contains(first) && !"-.".contains(last) && part.utf8.allSatisfy(isWordByte)
    }
  }

  /// What git allows as a reference, less what would be awkward as a path.
  static func isRevision(_ text: String) -> Bool {
    text.utf8.count <= 200 && !text.hasSuffix(".lock") && isPath(text)
      && text.utf8.allSatisfy { isWordByte($0) || $0 == UInt8(ascii: "/") }
  }

  /// Whether a name from outside stays within the folder that it is put into.
  static func isPath(_ text: String) -> Bool {
    text.utf8.count <= 400
      && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\\") }
      && text.split(separator: "/", omittingEmptySubsequences: false)
        .allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255 }
  }

  /// A commit as git writes it: 40 hexadecimal digits.
  static func isCommit(_ text: String) -> Bool { text.utf8.count == 40 && isHexadecimal(text) }

  static func isHexadecimal(_ text: String) -> Bool {
    text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
  }

  private static func isWordByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
      UInt8(ascii: "."):
      true
    default: false
    }
  }
}
