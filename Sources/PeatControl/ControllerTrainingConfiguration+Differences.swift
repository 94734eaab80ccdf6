import Foundation
import PeatTensor

extension ControllerTrainingConfiguration {
  /// In what these settings differ from those of a saved training, in words, by the options that set them.
  func differences(from saved: ControllerTrainingConfiguration) -> String {
    let (old, new) = (saved.values, values)
    var found: [String] = []
    for key in Set(old.keys).union(new.keys).sorted() where old[key] != new[key] {
      if let option = Self.switches[key] {
        // What is true without the option.
        let wasGiven = old[key] == .bool(false)
        found.append(
          "\(option) was \(wasGiven ? "" : "not ")given, here it is\(wasGiven ? " not" : "")")
      } else if key == "cloning.iterations" || !key.hasPrefix("cloning.") {
        func word(_ value: JSONValue?) -> String {
          value.map(\.words) ?? (key == "cloning.iterations" ? "0" : "not given")
        }
        // A seed may be larger than JSON's integers are here.
        let (was, isNow) =
          key == "seed" ? ("\(saved.seed)", "\(seed)") : (word(old[key]), word(new[key]))
        found.append("\(Self.options[key] ?? key) was \(was), here it is \(isNow)")
      }
    }
    return found.isEmpty ? "how a search is imitated" : found.joined(separator: "; ")
  }

  private static let switches = ["ppo.isGated": "--plain", "ppo.anneals": "--constant-rate"]

  private static let options = [
    "network.kind": "--network", "network.width": "--width", "network.exchanges": "--exchanges",
    "steps": "--steps", "processes": "--processes", "seed": "--seed", "ppo.rounds": "--rounds",
    "ppo.minibatch": "--minibatch", "ppo.epochs": "--epochs",
    "ppo.learningRate": "--learning-rate", "ppo.discount": "--discount",
    "ppo.timeConstant": "--time-constant", "ppo.entropyWeight": "--entropy",
    "ppo.ratio": "--ratio", "ppo.targetDivergence": "--target-divergence",
    "cloning.iterations": "--cloning",
  ]

  /// Every setting under its path.
  private var values: [String: JSONValue] {
    guard let data = try? JSONEncoder().encode(self),
      let whole = try? JSONDecoder().decode(JSONValue.self, from: data)
    else { return [:] }
    var result: [String: JSONValue] = [:]
    func walk(_ value: JSONValue, _ path: String) {
      guard case .object(let table) = value else {
        result[path] = value
        return
      }
      for (key, value) in table { walk(value, path.isEmpty ? key : "\(path).\(key)") }
    }
    walk(whole, "")
    return result
  }
}

extension JSONValue {
  fileprivate var words: String {
    switch self {
    case .integer(let value): "\(value)"
    // Of a float, as it was written.
    case .number(let value): "\(Float(value))"
    case .string(let value): value
    default: "\(self)"
    }
  }
}
