import PeatModels
import PeatNN
import PeatTensor

extension TransformerModel {
  /// Throws `badData` where a weight is no number, or infinite: an emulator of such a model can be made, and is worth nothing.
  ///
  /// Reads all weights once; memory of those that lie in a file is given back.
  ///
  /// - Parameter source: what errors call the model.
  public func checkWeights(source: String) throws {
    for parameter in parameters {
      let tensor = parameter.tensor
      guard tensor.isFinite else {
        throw PeatError.badData(
          "'\(source)': '\(parameter.name)' holds a weight that is no finite number. The model is damaged, or its training diverged; fetch or make it again."
        )
      }
      tensor.releasePages()
    }
  }
}
