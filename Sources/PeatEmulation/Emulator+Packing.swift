import PeatModels
import PeatNN
import PeatTensor

extension Emulator {
  /// Keeps the middle's matrices as the recipe says. Nothing of it can be trained any more.
  ///
  /// - Parameter calibration: the text on which rounding is compensated, where the recipe asks for that.
  /// - Throws: `usage` where there is none, `badData` where the text shows nothing.
  public func pack(
    _ calibration: CompressionCalibration? = nil,
    onProgress: CompressionProgress.Listener = { _ in }
  ) throws {
    guard let word = recipe.storage else { return }
    let storage = type(of: word).storage
    guard word.isCompensated else {
      for block in middleBlocks {
        for linear in block.linears {
          for matrix in linear.matrices {
            matrix.pack(as: storage, axis: linear.inputAxis, halfScales: true)
          }
        }
      }
      return
    }
    guard let calibration else {
      throw PeatError.usage(
        "'\(type(of: word).name)=gptq' looks at what goes into the middle and needs a text: make the emulator with 'fedpeat compress --calibration TEXT', and name its folder where a recipe could stand."
      )
    }
    let order = model.configuration.order
    var states = calibration.states(of: model, behind: split.bottom)
    var reached = split.bottom
    // Each with what goes into it behind those that are packed already.
    for local in split.bottom..<split.bottom + middleCount {
      try onProgress(
        CompressionProgress(
          word: type(of: word).name, done: local - split.bottom, total: middleCount))
      guard let first = order.firstIndex(of: local), let last = order.lastIndex(of: local) else {
        continue
      }
      if first > reached {
        states = calibration.run(model, through: reached..<first, from: states).states
        reached = first
      }
      let linears = model.blocks[local].linears
      let seen = calibration.run(
        model, through: first..<last + 1, from: states,
        watching: Set(linears.flatMap(\.matrices).map(\.name))
      ).seen
      for linear in linears {
        for matrix in linear.matrices {
          guard let products = seen[matrix.name]?.inputs else { continue }
          matrix.pack(
            try PackedMatrix(
              matrix.tensor, as: storage, axis: linear.inputAxis, products: products,
              keepsZeros: recipe.isSparse, named: matrix.name))
        }
      }
    }
  }

  /// The blocks that stand for the middle.
  var middleBlocks: [TransformerBlock] {
    model.blocks.filter { split.middle.contains($0.numberInFullModel) }
  }
}

extension Linear {
  /// Its matrix, or both factors.
  var matrices: [Parameter] { (reduction.map { [$0] } ?? []) + [weight] }

  var inputAxis: Int { layout == .outputsByInputs ? 1 : 0 }
}
