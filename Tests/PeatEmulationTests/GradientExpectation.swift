import PeatEmulation
import PeatNN
import Testing

/// Expects that a loss of an emulator's middle rises along a gradient as the gradient's norm says.
///
/// - Parameter loss: of the same batch, with the middle as it is when it is called.
func expectRises(
  along gradient: [Float], in emulator: Emulator, loss: () throws -> Double,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  func objective(_ step: Float) throws -> Double {
    var offset = 0
    let before = emulator.middleParameters.map { $0.tensor.copied() }
    for parameter in emulator.middleParameters {
      let changed = parameter.tensor.copied()
      for index in 0..<changed.count { changed.pointer[index] += step * gradient[offset + index] }
      offset += changed.count
      parameter.assign(changed)
    }
    let value = try loss()
    for (parameter, old) in zip(emulator.middleParameters, before) { parameter.assign(old) }
    return value
  }
  let square = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }
  #expect(square > 0, sourceLocation: sourceLocation)
  let step = Float(1e-3 / square.squareRoot())
  let slope = try (objective(step) - objective(-step)) / (2 * Double(step))
  #expect(
    abs(slope / square - 1) < 0.01, "\(slope), expected \(square)", sourceLocation: sourceLocation)
}
