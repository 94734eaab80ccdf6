import PeatModels
import PeatTensor

/// Where PEFT's table of a prefix, `prompt_embeddings` `[P, slots · 2 · width]`, has the keys and values of a block: for each virtual token, slot by
/// slot, a key and a value.
///
/// A model of one stack has a slot for each block, in order. Of a model with an encoder only the decoder's blocks have a prefix, and they take every second
/// slot, round and round: the decoder's block i has slot 2i mod slots. PEFT joins the table to itself and hands out four rows where two are looked at. An
/// odd number of slots gives each block one of its own; with an even number blocks half the slots apart have the same, and every other slot is nobody's.
struct PrefixTable {
  /// PEFT's `num_layers`.
  let slots: Int
  /// The blocks that have a prefix, numbered as the table's folder counts them.
  let blocks: Range<Int>
  private let step: Int
  private let keys: TransformerKeys

  /// That of a prefix in all of a model's blocks that take one, each with a slot of its own: of an even number of a decoder's blocks one slot more
  /// than it has blocks, which is nobody's.
  init(blockCount: Int, _ keys: TransformerKeys) {
    self.keys = keys
    blocks = min(keys.encoderBlocks, blockCount)..<blockCount
    step = keys.decoder == nil ? 1 : 2
    slots = step == 2 && blocks.count % 2 == 0 ? blocks.count + 1 : blocks.count
  }

  /// What an adapter_config.json says of its table.
  struct Stated {
    var layers: Int?
    var submodules: Int?

    /// - Throws: `badData` where it is no number.
    init(_ json: JSONValue, in file: String) throws {
      func number(_ key: String) throws -> Int? {
        guard let value = json[key], !value.isNull else { return nil }
        guard let number = value.integer, number > 0 else {
          throw PeatError.badData(
            "'\(file)' has \(key) = \(value); expected a whole number above 0.")
        }
        return number
      }
      layers = try number("num_layers")
      submodules = try number("num_transformer_submodules")
    }
  }

  /// That of a folder.
  ///
  /// - Parameter stated: what its adapter_config.json says.
  /// - Throws: `badData` where the blocks are more than the table is for, or it is made in a way that is not computed here.
  init(blockCount: Int, _ keys: TransformerKeys, _ stated: Stated?, in folder: String) throws {
    let own = PrefixTable(blockCount: blockCount, keys)
    self.keys = keys
    (blocks, step) = (own.blocks, own.step)
    slots = stated?.layers ?? own.slots
    if let submodules = stated?.submodules, submodules != step {
      throw PeatError.badData(
        "'\(folder)' was tuned with num_transformer_submodules = \(submodules); this program computes \(step) of a model like this, which is what PEFT takes for the task \(keys.taskType) where nothing is said. Tune it without that key."
      )
    }
    guard slots >= blocks.count, slots <= 1 << 16, !blocks.isEmpty else {
      throw PeatError.badData(
        "'\(folder)': its prefix is for \(slots) blocks (num_layers), and the model\(keys.decoder == nil ? "" : "'s decoder") has \(blocks.count). Was it tuned for another model?"
      )
    }
  }

  private func slot(_ block: Int) -> Int { step * (block - blocks.lowerBound) % slots }

  private func names(_ block: Int) -> (keys: String, values: String) {
    let name = keys.block(block)
    return (name + PrefixTuning.keysSuffix, name + PrefixTuning.valuesSuffix)
  }

  /// The table; `nil` where a block has no prefix: one of zeros would be another thing, as attention would give weight to it.
  func callAsFunction(_ state: NamedTensors) -> Tensor? {
    var parts: [Int: Tensor] = [:]
    for block in blocks {
      let names = names(block)
      guard let first = state[names.keys], let second = state[names.values] else { return nil }
      parts[2 * slot(block)] = first
      parts[2 * slot(block) + 1] = second
    }
    guard 2 * blocks.count == state.count, parts.count == state.count,
      let shape = parts.values.first?.shape, shape.count == 2,
      parts.values.allSatisfy({ $0.shape == shape })
    else { return nil }
    let (count, width) = (shape[0], shape[1])
    let table = Tensor(repeating: 0, shape: [count, 2 * slots * width])
    table.withUnsafeMutableBufferPointer { target in
      for (number, part) in parts {
        part.withUnsafeBufferPointer { source in
          for row in 0..<count {
            for column in 0..<width {
              target[(row * 2 * slots + number) * width + column] = source[row * width + column]
            }
          }
        }
      }
    }
    return table
  }

  /// The keys and values of a table, by name.
  ///
  /// - Parameter width: of a key, where the model is known.
  /// - Throws: `badData` where it does not divide so.
  func state(of table: Tensor, width: Int?, in folder: String) throws -> NamedTensors {
    guard table.shape.count == 2, table.shape[0] > 0, table.shape[1] > 0,
      table.shape[1] % (2 * slots) == 0, width.map({ $0 * 2 * slots == table.shape[1] }) ?? true
    else {
      throw PeatError.badData(
        "'\(folder)': '\(PrefixTuning.tableName)' has shape \(table.shape); keys and values of \(slots) blocks (num_layers) would be "
          + "[virtual tokens, \(width.map { "\(2 * slots * $0)" } ?? "\(2 * slots) · width")]. Was it tuned for another model?"
      )
    }
    let (count, width) = (table.shape[0], table.shape[1] / (2 * slots))
    var state: NamedTensors = [:]
    table.withUnsafeBufferPointer { source in
      func part(_ number: Int) -> Tensor {
        var values: [Float] = []
        values.reserveCapacity(count * width)
        for row in 0..<count {
          let first = (row * 2 * slots + number) * width
          values.append(contentsOf: source[first..<first + width])
        }
        return Tensor(values, shape: [count, width])
      }
      for block in blocks {
        let names = names(block)
        state[names.keys] = part(2 * slot(block))
        state[names.values] = part(2 * slot(block) + 1)
      }
    }
    return state
  }
}
