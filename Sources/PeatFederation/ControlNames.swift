import PeatTensor

/// How SCAFFOLD's control variates are named beside the tensors of an adapter that they are for.
package enum ControlNames {
  package static let suffix = ".control"

  package static func isControl(_ name: String) -> Bool { name.hasSuffix(suffix) }
}

extension NamedTensors {
  /// Those that are control variates, by the names of what they are for.
  package var controls: NamedTensors {
    reduce(into: [:]) { result, entry in
      guard ControlNames.isControl(entry.key) else { return }
      result[String(entry.key.dropLast(ControlNames.suffix.count))] = entry.value
    }
  }

  package var withoutControls: NamedTensors { filter { !ControlNames.isControl($0.key) } }

  /// The same with control variates beside, given by the names of what they are for.
  package func settingControls(_ controls: NamedTensors) -> NamedTensors {
    controls.reduce(into: self) { $0[$1.key + ControlNames.suffix] = $1.value }
  }
}
