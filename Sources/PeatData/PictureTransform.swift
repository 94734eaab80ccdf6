import PeatTensor

/// What is done to a client's pictures before it learns from them, in words: `none`, `rotate=90`, `invert`, or several, `rotate=90+invert`.
///
/// So clients that see the same things differently can be made of one set of pictures.
public struct PictureTransform: Sendable, Equatable, CustomStringConvertible {
  private enum Step: Sendable, Equatable {
    /// Turned to the left by so many quarters.
    case rotation(quarters: Int)
    /// Light for dark.
    case inversion
  }

  private let steps: [Step]

  public static let words = ["none", "rotate=90", "rotate=180", "rotate=270", "invert"]

  /// Throws `usage` for what is none of `words`, nor several joined by `+`.
  public init(_ text: String) throws {
    steps = try text.split(separator: "+", omittingEmptySubsequences: false).compactMap { word in
      switch word {
      case "none": return nil
      case "rotate=90": return .rotation(quarters: 1)
      case "rotate=180": return .rotation(quarters: 2)
      case "rotate=270": return .rotation(quarters: 3)
      case "invert": return .inversion
      default:
        throw PeatError.usage(
          "'\(word)' is nothing that is done to pictures. Expected \(Self.words.joined(separator: ", ")), or several joined by +."
        )
      }
    }
  }

  public var description: String {
    if steps.isEmpty { return "none" }
    return steps.map { step in
      switch step {
      case .rotation(let quarters): "rotate=\(90 * quarters)"
      case .inversion: "invert"
      }
    }.joined(separator: "+")
  }

  public func callAsFunction(_ image: PixelImage) -> PixelImage {
    steps.reduce(image) { image, step in
      switch step {
      case .rotation(let quarters): image.rotated(quarters: quarters)
      case .inversion: image.inverted
      }
    }
  }
}

extension PixelImage {
  /// The same turned to the left by so many quarters, as `numpy.rot90` does.
  public func rotated(quarters: Int) -> PixelImage {
    let turns = ((quarters % 4) + 4) % 4
    if turns == 0 { return self }
    let (newWidth, newHeight) = turns == 2 ? (width, height) : (height, width)
    var result = [UInt8](repeating: 0, count: bytes.count)
    for row in 0..<newHeight {
      for column in 0..<newWidth {
        let (oldRow, oldColumn) =
          switch turns {
          case 1: (column, width - 1 - row)
          case 2: (height - 1 - row, width - 1 - column)
          default: (height - 1 - column, row)
          }
        let source = (oldRow * width + oldColumn) * channels
        let target = (row * newWidth + column) * channels
        for channel in 0..<channels { result[target + channel] = bytes[source + channel] }
      }
    }
    return PixelImage(width: newWidth, height: newHeight, channels: channels, bytes: result)
  }

  /// Light for dark: 255 − value; transparency stays.
  public var inverted: PixelImage {
    let hasAlpha = channels == 4
    return PixelImage(
      width: width, height: height, channels: channels,
      bytes: bytes.enumerated().map { hasAlpha && $0 % 4 == 3 ? $1 : 255 - $1 })
  }
}

extension Document {
  /// The same with its picture changed.
  ///
  /// - Throws: `usage` where it is a text.
  public func transformed(by transform: PictureTransform) throws -> Document {
    guard let picture else {
      throw PeatError.usage(
        "clientTransforms are for pictures; the data has a text: '\(text.prefix(40))…'. Leave them out, or name a model and data of pictures."
      )
    }
    var result = self
    result.picture = transform(picture)
    return result
  }
}
