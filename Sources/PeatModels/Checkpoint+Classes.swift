import Foundation
import PeatTensor

/// What becomes of a head where classes are to be told apart.
public enum ClassHead: Sendable {
  /// It stays where it is of these classes. One whose classes only have numbers (`LABEL_0`, …) gets their names, where they are as many.
  case kept
  /// Another takes its place where it is of other classes.
  case fitted
  /// Another takes its place in any case.
  case drawn
}

extension Checkpoint {
  /// The same model with a head of classes in the place of its own: what the files have of such a head, and the rest drawn by the seed, matrices normal with
  /// deviation 0.02, biases 0. A model that has a head of these classes already stays as it is.
  ///
  /// Where a head takes the place of one of other classes, the matrix behind it and its biases are new, and layers before it stay.
  ///
  /// - Throws: `usage` where the model has a head of other classes that is to be kept, or is of a family that has none.
  public func classifying(
    _ names: [String], seed: UInt64, head policy: ClassHead = .kept
  ) throws -> Checkpoint {
    guard !configuration.hasEncoder else {
      throw PeatError.usage(
        "'\(folder.path)' is of the type \(configuration.modelType), which has no head of classes here: its decoder says words. Let it say the class, by records of a prompt and a completion; or take a model of another family."
      )
    }
    var isInPlace = false
    var result = self
    if let own = configuration.head?.labels {
      switch policy {
      case .kept where own == names, .fitted where own == names: return self
      case .kept, .fitted:
        let isRenamed = ClassNames.areNumbers(own) && own.count == names.count
        if isRenamed {
          try result.describe(names)
          return result
        }
        guard policy == .fitted else { throw otherClasses(own, names) }
        isInPlace = true
      case .drawn: isInPlace = true
      }
    }
    result.hasNewHead = true
    try result.describe(names)
    guard let head = result.configuration.head, let labels = head.labels else { return self }
    var random = SeededRandom(seed: seed, "head")
    let hidden = configuration.embeddingWidth
    let missingPrefix = configuration.keys.missingPrefix { files[$0] != nil }
    func add(_ name: String?, _ shape: [Int], replacing: Bool = false) {
      guard let name else { return }
      let stored = name.dropping(prefix: missingPrefix)
      guard replacing || files[stored] == nil else { return }
      result.added[stored] =
        shape.count == 1
        ? Tensor(zeros: shape) : .normal(shape, deviation: 0.02, using: &random)
    }
    add(head.dense.map { "\($0).weight" }, [hidden, hidden])
    add(head.dense.map { "\($0).bias" }, [hidden])
    add(head.weight, [labels.count, hidden], replacing: isInPlace)
    add(head.bias, [labels.count], replacing: isInPlace)
    return result
  }

  /// Lets config.json, and what was read from it, name these classes.
  private mutating func describe(_ names: [String]) throws {
    let place = folder.appendingPathComponent("config.json").path
    let variation = configuration.variation
    configurationJSON = try Architectures.classifying(configurationJSON, names)
    configuration = try Architectures.configuration(
      from: ConfigurationFile(name: place, json: configurationJSON))
    configuration.variation = variation
  }

  private func otherClasses(_ own: [String], _ names: [String]) -> PeatError {
    func list(_ names: [String]) -> String {
      names.prefix(8).joined(separator: ", ") + (names.count > 8 ? ", …" : "")
    }
    return .usage(
      "'\(folder.path)' tells apart the classes \(list(own)); the task's are \(list(names)). Take the same classes in the same order; or let a new head be drawn: --new-head of 'tune', newHead: true in a run file."
    )
  }
}
