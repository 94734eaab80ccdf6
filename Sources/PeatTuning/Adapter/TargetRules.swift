import PeatModels
import PeatTensor

/// Which layers PEFT's adapter_config.json means: ends of names, whole names, one regular expression or `all-linear`; some blocks, or all.
///
/// Source: `check_target_module_exists` of PEFT 0.21.
struct TargetRules {
  private enum Names {
    case all
    case ends([String])
    case expression(LayerExpression)

    init?(_ value: JSONValue?, _ key: String, _ file: String) throws {
      switch value {
      case nil, .null: return nil
      case .string(let text) where text.lowercased() == "all-linear": self = .all
      case .string(let text): self = .expression(try TargetRules.expression(text, key, file))
      case .array(let values) where values.allSatisfy({ $0.string != nil }):
        self = .ends(values.compactMap(\.string))
      default:
        throw PeatError.badData(
          "'\(file)': \(key) is neither a list of names nor one regular expression.")
      }
    }

    func mean(_ layer: String) -> Bool {
      switch self {
      case .all: true
      case .ends(let ends): ends.contains { LayerPattern.isEnd($0, of: layer) }
      case .expression(let expression): expression.matches(layer)
      }
    }
  }

  private let targets: Names?
  private let excluded: Names?
  private let layers: [Int]?

  /// Throws `badData` where a key holds something else than PEFT's would.
  init(_ json: JSONValue, in file: String) throws {
    targets = try Names(json["target_modules"], "target_modules", file)
    let left = try Names(json["exclude_modules"], "exclude_modules", file)
    // `all-linear` says nothing there.
    excluded = if case .all = left { nil } else { left }
    switch json["layers_to_transform"] {
    case nil, .null: layers = nil
    case .integer(let number): layers = [number]
    case .array(let values) where values.allSatisfy({ $0.integer != nil }):
      layers = values.isEmpty ? nil : values.compactMap(\.integer)
    default:
      throw PeatError.badData(
        "'\(file)': layers_to_transform is neither a block's number nor a list of such.")
    }
    try Self.checkLayersPattern(json["layers_pattern"], file)
  }

  /// Which part of a name the blocks' numbers stand behind: known here, so that it must only be one.
  private static func checkLayersPattern(_ value: JSONValue?, _ file: String) throws {
    let key = "layers_pattern"
    switch value {
    case nil, .null: return
    case .string(let text): _ = try expression(text, key, file)
    case .array(let values) where values.allSatisfy({ $0.string != nil }):
      for text in values.compactMap(\.string) { _ = try expression(text, key, file) }
    default:
      throw PeatError.badData(
        "'\(file)': \(key) is neither the name of a list of blocks, such as 'layers', nor a list of such."
      )
    }
  }

  private static func expression(
    _ text: String, _ key: String, _ file: String
  ) throws -> LayerExpression {
    do { return try LayerExpression(text) } catch {
      throw PeatError.badData(
        "'\(file)': \(key) is '\(text.prefix(60))', a regular expression that can't be read: \(error.reason). A list of names does without."
      )
    }
  }

  /// Whether the file says which layers it means.
  var areStated: Bool { targets != nil }

  /// Whether a layer is meant; all are where the file does not say which.
  ///
  /// - Parameters:
  ///   - layer: its name in the checkpoint; that of the module may be meant as well.
  ///   - block: its block's number; `nil` where it is in none.
  func mean(_ layer: String, block: Int?) -> Bool {
    guard let targets else { return true }
    let spellings = [layer, ModuleNames.inModules(layer)]
    if let excluded, spellings.contains(where: excluded.mean) { return false }
    guard spellings.contains(where: targets.mean) else { return false }
    // A whole name, and a regular expression, say the block themselves.
    guard let layers, case .ends(let names) = targets, !spellings.contains(where: names.contains)
    else { return true }
    return block.map(layers.contains) ?? false
  }
}
