import PeatModels
import PeatTensor

/// PEFT keeps a prefix as one table, `prompt_embeddings` `[P, blocks · 2 · width]`: for each virtual token, block by block, its key
/// and its value.
extension PrefixTuning {
  static let tableName = "prompt_embeddings"

  /// PEFT's table of a prefix in every one of a model's blocks; `nil` where a block has none: a prefix of zeros would be another thing, as
  /// attention would give weight to it.
  ///
  /// - Parameter state: numbered as the model counts its blocks.
  static func table(
    of state: NamedTensors, blockCount: Int, _ keys: TransformerKeys
  ) -> Tensor? {
    var parts: [Tensor] = []
    for block in 0..<blockCount {
      guard let first = state[keys.block(block) + keysSuffix],
        let second = state[keys.block(block) + valuesSuffix]
      else { return nil }
      parts += [first, second]
    }
    guard parts.count == state.count, let shape = parts.first?.shape, shape.count == 2,
      parts.allSatisfy({ $0.shape == shape })
    else { return nil }
    let (count, width) = (shape[0], shape[1])
    let table = Tensor(uninitialized: [count, parts.count * width])
    table.withUnsafeMutableBufferPointer { target in
      for (number, part) in parts.enumerated() {
        part.withUnsafeBufferPointer { source in
          for row in 0..<count {
            for column in 0..<width {
              target[(row * parts.count + number) * width + column] = source[row * width + column]
            }
          }
        }
      }
    }
    return table
  }

  /// A prefix from PEFT's table, numbered as the model counts its blocks.
  static func state(
    of table: Tensor, blockCount: Int, _ keys: TransformerKeys, in folder: String
  ) throws -> NamedTensors {
    guard table.shape.count == 2, table.shape[0] > 0, table.shape[1] > 0,
      table.shape[1] % (2 * blockCount) == 0
    else {
      throw PeatError.badData(
        "'\(folder)': '\(tableName)' has shape \(table.shape); keys and values of \(blockCount) blocks would be "
          + "[virtual tokens, \(2 * blockCount) · width]. Was it tuned for another model?")
    }
    let (count, parts) = (table.shape[0], 2 * blockCount)
    let width = table.shape[1] / parts
    var state: NamedTensors = [:]
    table.withUnsafeBufferPointer { source in
      for number in 0..<parts {
        var values: [Float] = []
        values.reserveCapacity(count * width)
        for row in 0..<count {
          let first = (row * parts + number) * width
          values.append(contentsOf: source[first..<first + width])
        }
        let suffix = number % 2 == 0 ? keysSuffix : valuesSuffix
        state[keys.block(number / 2) + suffix] = Tensor(values, shape: [count, width])
      }
    }
    return state
  }
}
