import PeatTensor

/// A picture in memory: rows of pixels from the top, channels side by side, 8 bits each.
public struct PixelImage: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// 1 grey, 3 red, green, blue, 4 with transparency.
  public let channels: Int
  /// `[height, width, channels]`.
  public let bytes: [UInt8]

  /// Pixels of one picture at most; a file that says it has more is not decoded.
  public static let pixelLimit = 1 << 26

  /// - Precondition: there are as many bytes as the sizes say.
  public init(width: Int, height: Int, channels: Int, bytes: [UInt8]) {
    precondition(
      width > 0 && height > 0 && bytes.count == width * height * channels,
      "PixelImage: \(bytes.count) bytes for \(width) × \(height) × \(channels)")
    self.width = width
    self.height = height
    self.channels = channels
    self.bytes = bytes
  }

  /// The same in red, green and blue; transparency is dropped, as Pillow's `convert("RGB")` does.
  public var rgb: PixelImage {
    switch channels {
    case 3: self
    case 1:
      PixelImage(
        width: width, height: height, channels: 3, bytes: bytes.flatMap { [$0, $0, $0] })
    default:
      PixelImage(
        width: width, height: height, channels: 3,
        bytes: stride(from: 0, to: bytes.count, by: channels).flatMap { bytes[$0..<$0 + 3] })
    }
  }

  /// The same in red, green and blue, laid on white where it is transparent, as Pillow's `alpha_composite` does.
  public var onWhite: PixelImage {
    guard channels == 4 else { return rgb }
    // Seven more bits, then a division by 255 by shifts: Pillow, `AlphaComposite.c`.
    let precision = 7
    let values = stride(from: 0, to: bytes.count, by: 4).flatMap { place in
      let alpha = Int(bytes[place + 3])
      return bytes[place..<place + 3].map { value in
        let sum = (Int(value) * alpha + 255 * (255 - alpha)) << precision + 0x80 << precision
        return UInt8(clamping: ((sum >> 8 + sum) >> 8) >> precision)
      }
    }
    return PixelImage(width: width, height: height, channels: 3, bytes: values)
  }

  /// The same in grey: 0.299 red, 0.587 green, 0.114 blue, in Pillow's fixed point (`convert("L")`).
  public var grey: PixelImage {
    guard channels > 1 else { return self }
    let values = stride(from: 0, to: bytes.count, by: channels).map { place in
      let (red, green, blue) = (Int(bytes[place]), Int(bytes[place + 1]), Int(bytes[place + 2]))
      return UInt8((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)
    }
    return PixelImage(width: width, height: height, channels: 1, bytes: values)
  }

  /// As a tensor.
  ///
  /// - Returns: `[channels, height, width]`, 0 … 1.
  public var tensor: Tensor {
    var values = [Float](repeating: 0, count: bytes.count)
    let area = width * height
    for place in 0..<area {
      for channel in 0..<channels {
        values[channel * area + place] = Float(bytes[place * channels + channel]) / 255
      }
    }
    return Tensor(values, shape: [channels, height, width])
  }

  /// What is within `width` × `height` around the middle; black where the picture is smaller.
  public func centerCropped(width newWidth: Int, height newHeight: Int) -> PixelImage {
    precondition(newWidth > 0 && newHeight > 0, "centerCropped to \(newWidth) × \(newHeight)")
    var result = [UInt8](repeating: 0, count: newWidth * newHeight * channels)
    // Rounded down, also below zero.
    let left = (width - newWidth) >> 1
    let top = (height - newHeight) >> 1
    for row in 0..<newHeight where (0..<height).contains(row + top) {
      for column in 0..<newWidth where (0..<width).contains(column + left) {
        let source = ((row + top) * width + column + left) * channels
        let target = (row * newWidth + column) * channels
        for channel in 0..<channels { result[target + channel] = bytes[source + channel] }
      }
    }
    return PixelImage(width: newWidth, height: newHeight, channels: channels, bytes: result)
  }
}
