import Foundation
import PeatModels
import PeatTensor

/// How one vector is made of the states of a text's tokens. The names are sentence-transformers'.
public enum SentencePooling: String, Sendable, Codable, CaseIterable {
  /// The first state.
  case first = "cls"
  /// The largest value of each column.
  case max
  case mean
  /// The sum over the square root of how many there are.
  case meanOverRoot = "mean_sqrt_len_tokens"
  /// The mean, the n-th state counting n times.
  case weightedMean = "weightedmean"
  case last = "lasttoken"

  /// The key that older files have for it.
  fileprivate var olderKey: String {
    switch self {
    case .first: "pooling_mode_cls_token"
    case .max: "pooling_mode_max_tokens"
    case .mean: "pooling_mode_mean_tokens"
    case .meanOverRoot: "pooling_mode_mean_sqrt_len_tokens"
    case .weightedMean: "pooling_mode_weightedmean_tokens"
    case .last: "pooling_mode_lasttoken"
    }
  }

  /// - Parameter states: `[T, d]`, T ≥ 1, row after row.
  /// - Returns: `[d]`.
  package func vector(of states: [Float], width: Int) -> [Float] {
    let count = states.count / width
    func row(_ number: Int) -> [Float] { Array(states[number * width..<(number + 1) * width]) }
    func sum(_ weight: (Int) -> Double) -> [Double] {
      var result = Array(repeating: 0.0, count: width)
      for number in 0..<count {
        let factor = weight(number)
        for column in 0..<width {
          result[column] += factor * Double(states[number * width + column])
        }
      }
      return result
    }
    switch self {
    case .first: return row(0)
    case .last: return row(count - 1)
    case .max:
      return (1..<count).reduce(into: row(0)) { largest, number in
        for column in 0..<width {
          largest[column] = Swift.max(largest[column], states[number * width + column])
        }
      }
    case .mean: return sum { _ in 1 }.map { Float($0 / Double(count)) }
    case .meanOverRoot: return sum { _ in 1 }.map { Float($0 / Double(count).squareRoot()) }
    case .weightedMean:
      let total = Double(count * (count + 1) / 2)
      return sum { Double($0 + 1) }.map { Float($0 / total) }
    }
  }
}

/// How a model makes a vector of a text, as sentence-transformers' files beside it say: `modules.json`, the pooling's `config.json`, `sentence_bert_config.json` and
/// `config_sentence_transformers.json`. Without them: the mean, as it is.
///
/// Source: <https://sbert.net/docs/package_reference/sentence_transformer/models.html>.
public struct SentenceRecipe: Sendable, Equatable {
  /// Vectors that are put one behind the other.
  public var poolings: [SentencePooling] = [.mean]
  /// Whether vectors are brought to length 1.
  public var isNormalized = false
  /// Tokens of a text that are read at most; `nil`: as many as the model reads.
  public var longest: Int?
  /// Whether texts are put in lower case first.
  public var isLowercased = false
  /// What stands in front of each text.
  public var prompt = ""

  public init() {}

  /// What the files in a model's folder say.
  ///
  /// - Throws: `badData` that names the file, for modules and settings that are not computed here.
  public init(folder: URL) throws {
    let modules = folder.appendingPathComponent("modules.json")
    if FileManager.default.fileExists(atPath: modules.path) {
      try read(modules, in: folder)
    }
    try readPrompt(in: folder)
    if longest == nil { longest = try Self.tokenizerLimit(in: folder) }
  }

  private mutating func read(_ modules: URL, in folder: URL) throws {
    guard let list = try JSONFile.read(JSONValue.self, from: modules).array, !list.isEmpty else {
      throw PeatError.badData("'\(modules.path)' is no list of modules.")
    }
    var kinds: [String] = []
    for module in list {
      guard let type = module["type"]?.string, let path = module["path"]?.string else {
        throw PeatError.badData("'\(modules.path)' has a module without 'type' and 'path'.")
      }
      let kind = type.split(separator: ".").last.map(String.init) ?? type
      kinds.append(kind)
      let place = path.isEmpty ? folder : folder.appendingPathComponent(path)
      switch kind {
      case "Transformer":
        guard path.isEmpty else {
          throw PeatError.badData(
            "'\(modules.path)' has its transformer in '\(path)': name that folder as the model, with modules.json beside its config.json."
          )
        }
        try readLimits(in: place)
      case "Pooling": try readPooling(place.appendingPathComponent("config.json"))
      case "Normalize": isNormalized = true
      default:
        throw PeatError.badData(
          "'\(modules.path)' has the module \(kind), which this program does not compute. It computes Transformer, Pooling and Normalize, in this order."
        )
      }
    }
    guard Array(kinds.prefix(2)) == ["Transformer", "Pooling"],
      kinds.dropFirst(2).allSatisfy({ $0 == "Normalize" })
    else {
      throw PeatError.badData(
        "'\(modules.path)' has the modules \(kinds.joined(separator: ", ")); expected Transformer, Pooling and perhaps Normalize, in this order."
      )
    }
  }

  private mutating func readPooling(_ url: URL) throws {
    let file = ConfigurationFile(
      name: url.path, json: try JSONFile.read(JSONValue.self, from: url))
    let known = SentencePooling.allCases.map(\.rawValue).joined(separator: ", ")
    if let stated = file.json["pooling_mode"], !stated.isNull {
      let names = stated.string.map { [$0] } ?? stated.array?.compactMap(\.string) ?? []
      poolings = try names.map {
        guard let pooling = SentencePooling(rawValue: $0) else {
          throw PeatError.badData(
            "'\(url.path)' asks for the pooling '\($0)'. This program computes \(known).")
        }
        return pooling
      }
    } else {
      poolings = try SentencePooling.allCases.filter { try file.flag($0.olderKey, default: false) }
      let others = (file.json.object ?? [:]).filter { key, value in
        key.hasPrefix("pooling_mode_") && value.bool == true
          && !SentencePooling.allCases.contains { $0.olderKey == key }
      }
      if let other = others.keys.sorted().first {
        throw PeatError.badData(
          "'\(url.path)' asks for \(other), which this program does not compute. It computes \(known)."
        )
      }
      if poolings.isEmpty { poolings = [.mean] }
    }
    guard !poolings.isEmpty else {
      throw PeatError.badData("'\(url.path)' names no pooling. This program computes \(known).")
    }
    if try !file.flag("include_prompt", default: true) {
      throw PeatError.badData(
        "'\(url.path)' leaves a prompt out of the pooling (include_prompt: false), which this program does not."
      )
    }
  }

  private mutating func readLimits(in folder: URL) throws {
    for kind in ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
      let url = folder.appendingPathComponent("sentence_\(kind)_config.json")
      guard FileManager.default.fileExists(atPath: url.path) else { continue }
      let file = ConfigurationFile(
        name: url.path, json: try JSONFile.read(JSONValue.self, from: url))
      longest = try file.optionalSize("max_seq_length")
      isLowercased = try file.flag("do_lower_case", default: false)
      return
    }
  }

  private mutating func readPrompt(in folder: URL) throws {
    let url = folder.appendingPathComponent("config_sentence_transformers.json")
    guard FileManager.default.fileExists(atPath: url.path) else { return }
    let file = ConfigurationFile(
      name: url.path, json: try JSONFile.read(JSONValue.self, from: url))
    guard let name = try file.optionalString("default_prompt_name") else { return }
    guard let text = file.json["prompts"]?[name]?.string else {
      throw PeatError.badData(
        "'\(url.path)' has default_prompt_name = '\(name)', and no such prompt in 'prompts'.")
    }
    prompt = text
  }

  /// `model_max_length` of tokenizer_config.json, where it is a length: files that have none say 10³⁰.
  private static func tokenizerLimit(in folder: URL) throws -> Int? {
    let url = folder.appendingPathComponent("tokenizer_config.json")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    let limit = try JSONFile.read(JSONValue.self, from: url)["model_max_length"]?.integer
    return limit.flatMap { (1..<1 << 31).contains($0) ? $0 : nil }
  }

  /// A text as the tokenizer is to see it.
  func prepared(_ text: String) -> String {
    let text = prompt + text
    return isLowercased ? text.lowercased() : text
  }
}
