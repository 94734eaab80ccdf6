import Foundation
import PeatHub

extension RunConfiguration {
  /// The full model's folder, which the run names by its path or by its name on the Hub.
  public func modelFolder() throws -> URL { try ModelFolder.url(model) }

  /// The same with every path from the root of the file system on, so that it can be used from anywhere. Words that are no paths, such as recipes
  /// and the names of scenarios, stay.
  public func withWholePaths() -> RunConfiguration {
    func whole(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }
    var result = self
    // A name on the Hub becomes the snapshot that it leads to now, so that the run can be made again.
    result.model = (try? modelFolder().standardizedFileURL.path) ?? whole(model)
    result.data = data.map(whole)
    result.evaluationData = evaluationData.map(whole)
    result.realignData = realignData.map(whole)
    result.serverData = serverData.map(whole)
    result.out = out.map(whole)
    result.lastReleased = lastReleased.map(whole)
    result.edge = edge.map { EdgeFile.isScenario($0) ? $0 : whole($0) }
    result.emulators = emulators.map { word in
      if case .folder(let folder)? = try? EmulatorSource(word) { return whole(folder.path) }
      return word
    }
    let learned = "learned:"
    if planner.hasPrefix(learned) {
      result.planner = learned + whole(String(planner.dropFirst(learned.count)))
    }
    return result
  }
}
