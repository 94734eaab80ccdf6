/// What went wrong with something that came from outside: a file, the network, a flag.
///
/// `message` says what happened, where, what was expected, what was found, and what to try next.
/// A mistake in calling code (two shapes that do not fit) is a `precondition` instead.
public struct PeatError: Error, Sendable, CustomStringConvertible {
  /// The kind of failure; its raw value is the exit code of the command line (after sysexits.h).
  public enum Code: Int32, Sendable, Codable {
    /// A command, flag, recipe word or setting that does not exist or makes no sense.
    case usage = 64
    /// Data that is there but wrong.
    case badData = 65
    /// A service that can't be reached, after retries.
    case unavailable = 69
    /// A mistake of this program.
    case internalError = 70
    /// A file that is missing, or can't be read or written.
    case inputOutput = 74
    /// Interrupted by the user.
    case interrupted = 130
  }

  public let code: Code
  public let message: String
  public let cause: (any Error)?

  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  public var description: String { message }

  public static func usage(_ message: String) -> PeatError { PeatError(.usage, message) }
  public static func badData(_ message: String, cause: (any Error)? = nil) -> PeatError {
    PeatError(.badData, message, cause: cause)
  }
  public static func unavailable(_ message: String, cause: (any Error)? = nil) -> PeatError {
    PeatError(.unavailable, message, cause: cause)
  }
  public static func inputOutput(_ message: String, cause: (any Error)? = nil) -> PeatError {
    PeatError(.inputOutput, message, cause: cause)
  }
}

/// The known word nearest to an unknown one, for "Did you mean 'q_proj'?".
///
/// Nearest in edit distance (insert, delete, replace, swap neighbours); `nil` where nothing is near.
public func nearestWord(to word: String, among known: some Sequence<String>) -> String? {
  let limit = max(2, word.count / 3)
  var best: (word: String, distance: Int)?
  for candidate in known.sorted() {
    let distance = editDistance(word.lowercased(), candidate.lowercased())
    if distance <= limit, best.map({ distance < $0.distance }) ?? true {
      best = (candidate, distance)
    }
  }
  return best?.word
}

extension Error {
  /// Whether it says that somebody stopped the work, and not that it failed.
  package var isInterruption: Bool {
    self is CancellationError || (self as? PeatError)?.code == .interrupted
  }
}

/// "Did you mean 'x'? " or nothing, followed by the known words: the tail of an error message.
public func suggestion(for word: String, among known: some Sequence<String>) -> String {
  let list = known.sorted().joined(separator: ", ")
  guard let near = nearestWord(to: word, among: known) else { return "Known: \(list)." }
  return "Did you mean '\(near)'? Known: \(list)."
}

private func editDistance(_ first: String, _ second: String) -> Int {
  let a = Array(first)
  let b = Array(second)
  if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
  var table = Array(repeating: Array(repeating: 0, count: b.count + 1), count: a.count + 1)
  for i in 0...a.count { table[i][0] = i }
  for j in 0...b.count { table[0][j] = j }
  for i in 1...a.count {
    for j in 1...b.count {
      let cost = a[i - 1] == b[j - 1] ? 0 : 1
      table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + cost)
      if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
        table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
      }
    }
  }
  return table[a.count][b.count]
}
