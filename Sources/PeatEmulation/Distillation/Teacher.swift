import PeatModels
import PeatNN
import PeatTensor

extension TransformerModel {
  /// Moves weights of the middle that lie in memory, as those of 16 bits do, into a file, where `asTeacher` needs them; they stay where they are if there is no room.
  /// Nobody else may be using the model.
  ///
  /// - Parameter split: says which blocks are the middle.
  public func keepMiddleOnDisk(of split: ModelSplit) {
    let parameters = split.middle.flatMap { blocks[$0].linears }.flatMap(\.matrices).filter {
      $0.packed == nil && !$0.tensor.isMapped
    }
    let tensors = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.tensor) })
    guard !tensors.isEmpty, let moved = try? tensors.onDisk() else { return }
    for parameter in parameters {
      if let tensor = moved[parameter.name] { parameter.tensor = tensor }
    }
  }

  /// The same model to learn from, in less memory: matrices of the middle that lie in a file as float32 are kept as 8-bit integers, and their pages
  /// given back.
  ///
  /// What its states are off by is small beside what an emulator's are: a ten thousandth of their square in stories260K, against 0.06 of one that is distilled
  /// (docs/emulators.md). Weights that lie nowhere else stay as they are.
  ///
  /// - Parameter split: says which blocks are the middle. Low-rank updates in them are left out.
  package func asTeacher(of split: ModelSplit) throws -> TransformerModel {
    let teacher = try sharingWeights()
    for linear in split.middle.flatMap({ teacher.blocks[$0].linears }) {
      for matrix in linear.matrices where matrix.packed == nil && matrix.tensor.isMapped {
        let tensor = matrix.tensor
        matrix.pack(as: .int8, axis: linear.inputAxis)
        tensor.releasePages()
      }
    }
    return teacher
  }
}
