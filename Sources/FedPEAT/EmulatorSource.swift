import Foundation

/// What one word of a run's `emulators` names: a recipe, or a folder that `compress` wrote.
enum EmulatorSource: Sendable {
  case recipe(EmulatorRecipe)
  case folder(URL)

  /// - Throws: `usage` where the word is neither, or a recipe that needs a text; `badData` where it is a folder without an emulator.
  init(_ word: String) throws {
    let url = URL(fileURLWithPath: word)
    if Self.isEmulator(url) {
      self = .folder(url)
      return
    }
    var isFolder: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
    let recipe: EmulatorRecipe
    do { recipe = try EmulatorRecipe(word) } catch let error as PeatError {
      if exists {
        throw PeatError.badData(
          "emulators names '\(word)', which is \(isFolder.boolValue ? "a folder without an emulator (it has no emulator.json)" : "a file"). Name a folder that 'fedpeat compress' wrote, or a recipe such as layer-drop=2.",
          cause: error)
      }
      // A word with a compression's name is a recipe with a mistake in it.
      if Self.beginsAsRecipe(word) { throw error }
      throw PeatError(
        .usage,
        "emulators names '\(word)', but there is no such folder, and it is no recipe: \(error.message)\(Self.nearestFolder(to: url))",
        cause: error)
    }
    guard !recipe.needsCalibration else {
      throw PeatError.usage(
        "The recipe '\(word)' looks at what the middle computes and needs a text: make the emulator with 'fedpeat compress --calibration TEXT', and name its folder instead."
      )
    }
    self = .recipe(recipe)
  }

  private static func isEmulator(_ url: URL) -> Bool {
    FileManager.default.fileExists(atPath: url.appendingPathComponent("emulator.json").path)
  }

  private static func beginsAsRecipe(_ word: String) -> Bool {
    let name = word.prefix { $0 != "=" && $0 != "," }
    return EmulatorRecipe.known.contains { $0.name == name }
  }

  /// " Did you mean the folder 'emulator'?" where one beside it holds an emulator and has nearly that name; else nothing.
  private static func nearestFolder(to url: URL) -> String {
    let parent = url.deletingLastPathComponent()
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: parent.path)) ?? [])
      .filter { isEmulator(parent.appendingPathComponent($0)) }
    guard let near = nearestWord(to: url.lastPathComponent, among: names) else { return "" }
    return " Did you mean the folder '\(near)'?"
  }
}
