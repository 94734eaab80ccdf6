import PeatTensor

extension ControllerTrainingConfiguration {
  /// In what these settings differ from those of a saved training, in words, by the options that set them.
  func differences(from saved: ControllerTrainingConfiguration) throws -> String {
    let found = try JSONValue(encoding: self).differences(from: JSONValue(encoding: saved)) {
      path, was, isNow in
      if let option = Self.switches[path] {
        // What is true without the option.
        let wasGiven = was == "false"
        return "\(option) was \(wasGiven ? "" : "not ")given, here it is\(wasGiven ? " not" : "")"
      }
      guard path == "cloning.iterations" || !path.hasPrefix("cloning.") else { return nil }
      // Without a search none of its steps are imitated; a seed may be larger than JSON's integers are here.
      func word(_ text: String) -> String {
        path == "cloning.iterations" && text == "not given" ? "0" : text
      }
      let (old, new) = path == "seed" ? ("\(saved.seed)", "\(seed)") : (word(was), word(isNow))
      return "\(Self.options[path] ?? path) was \(old), here it is \(new)"
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
}
