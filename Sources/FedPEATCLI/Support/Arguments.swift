import ArgumentParser
import FedPEAT

/// The command line's words, made ready for the argument parser.
enum Arguments {
  /// Throws where an option is given more than once of which only one can count: the parser would take the last without a word.
  static func checkSingle(_ option: String, _ values: [String]) throws {
    guard values.count > 1 else { return }
    throw ValidationError(
      "\(option) is given \(values.count) times (\(values.map { "'\($0)'" }.joined(separator: ", "))), but a model takes one adapter at a time here. Give one; 'aggregate' makes one of several updates ('tune --update')."
    )
  }

  /// Ties a negative number to the option before it, which the parser would take for a flag.
  ///
  /// Throws where a word is empty, as it is where a shell's variable was not set; only a prompt may be.
  static func prepared(_ words: [String]) throws -> [String] {
    var result: [String] = []
    for word in words {
      let option = result.last.flatMap {
        $0.hasPrefix("--") && $0 != "--" && !$0.contains("=") ? $0 : nil
      }
      if word.isEmpty, option != "--prompt" {
        throw PeatError.usage(
          "The argument after '\(result.last ?? "fedpeat")' is empty. If it is a variable of the shell, it is not set."
        )
      }
      if let option, word.hasPrefix("-"), Double(word) != nil {
        result[result.count - 1] = "\(option)=\(word)"
      } else {
        result.append(word)
      }
    }
    return result
  }
}
