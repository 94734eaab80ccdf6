import PeatTensor

/// What goes into a model: numbers of tokens, or of patches of pictures.
public struct ModelInputs {
  /// Of a model of pictures each number is a row of `patches`, or, below 0, one of its own tokens in front: −1 the first.
  public let numbers: UnsafeBufferPointer<Int32>
  /// Of which type each token is, such as of the second text of a pair; all are of the first if not given.
  public let types: UnsafeBufferPointer<Int32>?
  public let patches: PatchTable?

  /// - Precondition: there are as many types as numbers.
  public init(
    _ numbers: UnsafeBufferPointer<Int32>, types: UnsafeBufferPointer<Int32>? = nil,
    patches: PatchTable? = nil
  ) {
    precondition(types.map { $0.count == numbers.count } ?? true, "ModelInputs: types")
    self.numbers = numbers
    self.types = types
    self.patches = patches
  }

  public var count: Int { numbers.count }

  public subscript(range: Range<Int>) -> ModelInputs {
    ModelInputs(
      UnsafeBufferPointer(rebasing: numbers[range]),
      types: types.map { UnsafeBufferPointer(rebasing: $0[range]) }, patches: patches)
  }
}

/// Patches of pictures: `[patches, channels · height · width]`, each channel by channel, row by row.
public struct PatchTable: Sendable, Equatable {
  public let values: Tensor

  /// - Precondition: a matrix.
  public init(_ values: Tensor) {
    precondition(values.shape.count == 2, "PatchTable: \(values.shape)")
    self.values = values
  }

  public var count: Int { values.shape[0] }
}

/// How a model sees pictures: cut into patches, with tokens of its own in front.
public struct ImageInput: Sendable, Equatable {
  public var height: Int
  public var width: Int
  /// Side of a patch, in pixels.
  public var patch: Int
  public var channels: Int
  /// Tokens of the model's own in front of the patches.
  public var ownTokens: Int

  public init(height: Int, width: Int, patch: Int, channels: Int, ownTokens: Int) {
    self.height = height
    self.width = width
    self.patch = patch
    self.channels = channels
    self.ownTokens = ownTokens
  }

  /// Patches of a picture.
  public var patches: Int { (height / patch) * (width / patch) }
  /// Values of a patch.
  public var patchSize: Int { channels * patch * patch }

  /// The patches of a picture, `[channels, height, width]` → `[patches, channels · patch · patch]`.
  ///
  /// - Precondition: the picture has the model's size.
  public func patches(of picture: Tensor) -> Tensor {
    precondition(
      picture.shape == [channels, height, width], "patches: a picture of \(picture.shape)")
    let result = Tensor(uninitialized: [patches, patchSize])
    var place = result.pointer
    for row in stride(from: 0, to: height - patch + 1, by: patch) {
      for column in stride(from: 0, to: width - patch + 1, by: patch) {
        for channel in 0..<channels {
          for line in 0..<patch {
            place.update(
              from: picture.pointer + ((channel * height + row + line) * width + column),
              count: patch)
            place += patch
          }
        }
      }
    }
    return result
  }
}
