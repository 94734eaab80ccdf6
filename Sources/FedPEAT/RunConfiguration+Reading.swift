import Foundation

extension RunConfiguration {
  /// Reads a run file, lets flags win over it, and sees that the values make sense together.
  ///
  /// - Parameters:
  ///   - url: the run file; `nil` reads none.
  ///   - flags: the keys that flags gave.
  /// - Throws: `badData` where it is the file that says what makes no sense; `usage` where the flags do, or something is missing.
  public static func read(
    from url: URL?, flags: [String: JSONValue]
  ) throws -> RunConfiguration {
    let configuration = try readUnchecked(from: url, flags: flags)
    do { try configuration.check() } catch let error as PeatError
      where [.usage, .badData].contains(error.code)
    {
      guard let url else { throw error }
      // What is said without the file as well is not the file's.
      var without = try ConfigurationReader.read(RunConfiguration(), from: nil, overrides: flags)
      without.model = configuration.model
      do { try without.check() } catch let other as PeatError
        where other.message == error.message
      { throw error } catch {}
      // And what the file says by itself as well is the file's alone.
      var alone = try ConfigurationReader.read(RunConfiguration(), from: url)
      if alone.model.isEmpty { alone.model = configuration.model }
      let together = (try? alone.check()) != nil
      throw PeatError.badData(
        "'\(url.path)'\(together ? " together with the flags" : ""): \(error.message)", cause: error
      )
    }
    return configuration
  }

  /// That the values make sense together, and that the model has the layers that are named; that a model can't be read is told elsewhere.
  private func check() throws {
    try validate()
    guard targetModules != nil || excludeModules != nil || feedForwardModules != nil,
      let own = try? Checkpoint(folder: modelFolder())
    else { return }
    try adapterMethod().checkTargets(of: own.configuration.keys)
  }

  /// The same without a look whether the values make sense together.
  public static func readUnchecked(
    from url: URL?, flags: [String: JSONValue]
  ) throws -> RunConfiguration {
    var configuration = try ConfigurationReader.read(
      RunConfiguration(), from: url, overrides: flags)
    configuration.settle(named: try (url.map(ConfigurationReader.keys) ?? []).union(flags.keys))
    return configuration
  }

  /// Gives what nobody named the value that fits the method and the model.
  private mutating func settle(named keys: Set<String>) {
    if !keys.contains(CodingKeys.learningRate.rawValue) {
      learningRate = MethodOptions.usualLearningRate(of: method)
    }
    // A model that can't be read, or a method that makes no sense, is told by who uses it.
    if !keys.contains(CodingKeys.context.rawValue), !model.isEmpty,
      let own = try? Checkpoint(folder: modelFolder()).configuration,
      let virtual = try? adapterMethod().virtualTokens
    {
      context = max(1, min(context, own.contextLength - virtual))
    }
  }
}
