import PeatTensor

extension ControllerFile {
  /// Throws `badData` where it was trained for something else than it is to plan. A shared network minds no number of devices.
  ///
  /// - Parameters:
  ///   - wanted: what there is to see and to decide here.
  ///   - name: the file's, for the message.
  ///   - advice: what to do where it does not fit.
  public func check(for wanted: ControlShape, name: String, advice: String) throws {
    let differences = self.differences(from: wanted)
    guard !differences.isEmpty else { return }
    throw PeatError.badData(
      "The controller '\(name)' was trained for something else ('\(facts.environment)') than there is here: \(differences.joined(separator: "; ")). \(advice)"
    )
  }

  /// What it was trained for beside what there is here, in words; empty where it fits.
  private func differences(from wanted: ControlShape) -> [String] {
    let own = facts.shape
    var found: [String] = []
    if facts.network.kind == .flat, own.devices != wanted.devices {
      found.append(
        "it plans for exactly \(own.devices) devices (--network flat), here there are \(wanted.devices)"
      )
    }
    if let levels = own.branches.levels, let here = wanted.branches.levels, levels != here {
      found.append("it chooses among \(levels) emulators, here there are \(here)")
    }
    if own.branches.further != wanted.branches.further {
      found.append(
        "beside who takes part on which emulator it decides \(own.branches.furtherInWords), here \(wanted.branches.furtherInWords)"
      )
    }
    if own.deviceFeatures != wanted.deviceFeatures {
      found.append(
        "it sees \(own.deviceFeatures) numbers of each device, here there are \(wanted.deviceFeatures) (one more where an edge's learning.coverage is above 0)"
      )
    }
    if own.globalFeatures != wanted.globalFeatures {
      found.append(
        "it sees \(own.globalFeatures) numbers of the round, here there are \(wanted.globalFeatures)"
      )
    }
    if found.isEmpty, own.branches != wanted.branches {
      found.append("its decisions hang together in another way")
    }
    return found
  }
}

extension ActionBranches {
  /// Among how many emulators a device's is chosen; `nil` where that is not decided.
  fileprivate var levels: Int? {
    list.indices.contains(Place.level) ? list[Place.level].choices : nil
  }

  /// What is decided beside whether a device takes part, and on which emulator.
  fileprivate var further: [ActionBranch] { Array(list.dropFirst(Place.further)) }

  fileprivate var furtherInWords: String {
    further.isEmpty
      ? "nothing"
      : further.map { "\($0.name) (\($0.choices) choices)" }.joined(separator: ", ")
  }
}
