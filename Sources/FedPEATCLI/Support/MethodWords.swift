import FedPEAT
import Foundation

/// How lists and patterns of layers are written on the command line.
enum MethodWords {
  /// `q_proj,v_proj`
  static func list(_ text: String) -> [String] {
    text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
  }

  /// `q_proj,v_proj`, or one regular expression, which may have commas.
  static func modules(_ text: String) -> [String] {
    text.contains(where: { "*+?()[]{}|\\^$".contains($0) }) ? [text] : list(text)
  }

  /// The learning rates of methods, in words.
  static let usualRates: String = {
    let rates = Dictionary(
      grouping: Adapter.Method.names, by: MethodOptions.usualLearningRate(of:))
    return rates.sorted { $0.key > $1.key }.map { rate, methods in
      "\(rate) of \(methods.joined(separator: ", "))"
    }.joined(separator: ", and ")
  }()

  /// `0,11`
  static func numbers(_ text: String, of option: String) throws -> [Int] {
    try list(text).map { word in
      guard let number = Int(word) else {
        throw PeatError.usage("\(option) has '\(word)'; it takes whole numbers, such as 0,11.")
      }
      return number
    }
  }

  /// `down_proj=2,v_proj=16`
  static func pattern<Value>(
    _ text: String?, of option: String, _ value: (String) -> Value?
  ) throws -> [String: Value] {
    var result: [String: Value] = [:]
    for word in text.map(list) ?? [] {
      let parts = word.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, !parts[0].isEmpty, let value = value(parts[1]) else {
        throw PeatError.usage(
          "\(option) has '\(word)'; it takes layers and numbers, such as down_proj=2,v_proj=16.")
      }
      guard result[parts[0]] == nil else {
        throw PeatError.usage("\(option) says \(parts[0]) twice; each layer can be there once.")
      }
      result[parts[0]] = value
    }
    return result
  }
}
