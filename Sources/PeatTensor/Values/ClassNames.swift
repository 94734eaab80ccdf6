/// Names of classes that only number them: `LABEL_0`, `LABEL_1`, …, as transformers calls the outputs of a head whose classes nobody named.
package enum ClassNames {
  /// Whether a head's classes have no other names.
  package static func areNumbers(_ names: [String]) -> Bool {
    !names.isEmpty && names.enumerated().allSatisfy { $1 == "LABEL_\($0)" }
  }

  /// The output that a class of data is, which calls it by its number alone: `2` among `LABEL_0`, `LABEL_1`, `LABEL_2`. `nil` where the head's classes have names, and where there is no such output.
  package static func number(_ label: String, in names: [String]) -> Int? {
    guard let number = Int(label), String(number) == label, names.indices.contains(number),
      areNumbers(names)
    else { return nil }
    return number
  }
}
