import Foundation
import PeatData
import PeatTensor

#if canImport(CPeatImages)
  import CPeatImages
#endif

/// Reads PNG through libpng and JPEG through libturbojpeg.
///
/// Sizes are looked at before anything is decoded, and a file that is damaged or ends early is refused, not shown in part. How a camera
/// was held (EXIF) is not looked at.
public enum ImageFile {
  /// Bytes of a file at most.
  static let byteLimit = 1 << 28

  public static let extensions: Set<String> = ["png", "jpg", "jpeg"]

  public static func read(_ url: URL) throws -> PixelImage {
    let resolved = url.resolvingSymlinksInPath()
    let attributes = try? FileManager.default.attributesOfItem(atPath: resolved.path)
    guard let attributes else {
      throw PeatError.inputOutput("There is no picture '\(url.path)'.")
    }
    guard attributes[.type] as? FileAttributeType == .typeRegular else {
      throw PeatError.inputOutput("'\(url.path)' is no plain file; a PNG or JPEG is expected.")
    }
    guard let size = (attributes[.size] as? NSNumber)?.intValue, size <= byteLimit else {
      throw PeatError.badData(
        "'\(url.path)' has more than \(byteLimit >> 20) MB; no picture is so large.")
    }
    return try decode([UInt8](JSONFile.bytes(of: url)), name: url.path)
  }

  /// - Parameter name: how messages name the source.
  public static func decode(_ bytes: [UInt8], name: String) throws -> PixelImage {
    if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      return try decodePNG(bytes, name)
    }
    if bytes.starts(with: [0xFF, 0xD8, 0xFF]) { return try decodeJPEG(bytes, name) }
    throw PeatError.badData(
      "'\(name)' is neither PNG nor JPEG: it begins otherwise. Other pictures must be converted first."
    )
  }

  private static func checkSize(_ width: Int, _ height: Int, _ name: String) throws {
    let (area, overflows) = width.multipliedReportingOverflow(by: height)
    guard width > 0, height > 0, !overflows, area <= PixelImage.pixelLimit else {
      throw PeatError.badData(
        "'\(name)' says it has \(width) × \(height) pixels; from 1 to \(PixelImage.pixelLimit) are read."
      )
    }
  }

  #if canImport(CPeatImages)
    private static func decodePNG(_ bytes: [UInt8], _ name: String) throws -> PixelImage {
      var image = png_image()
      image.version = 1  // PNG_IMAGE_VERSION
      defer { png_image_free(&image) }
      func failure() -> PeatError {
        let reason = withUnsafeBytes(of: image.message) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return PeatError.badData("'\(name)' is no whole PNG: \(reason).")
      }
      return try bytes.withUnsafeBytes { source in
        guard png_image_begin_read_from_memory(&image, source.baseAddress, source.count) != 0 else {
          throw failure()
        }
        try checkSize(Int(image.width), Int(image.height), name)
        let isColour = image.format & 0x02 != 0  // PNG_FORMAT_FLAG_COLOR
        let hasAlpha = image.format & 0x01 != 0  // PNG_FORMAT_FLAG_ALPHA
        // Never "grey with alpha": four channels then, so that the rest of the code knows 1, 3 and 4.
        let channels = hasAlpha ? 4 : isColour ? 3 : 1
        image.format = hasAlpha ? 0x03 : isColour ? 0x02 : 0
        // PNG_IMAGE_FLAG_16BIT_sRGB: 16 bits are the same curve with more steps.
        image.flags |= 0x04
        var pixels = [UInt8](
          repeating: 0, count: Int(image.width) * Int(image.height) * channels)
        let done = pixels.withUnsafeMutableBytes {
          png_image_finish_read(&image, nil, $0.baseAddress, 0, nil)
        }
        // A warning (1) says that something was mended; that is not what was stored.
        guard done != 0, image.warning_or_error == 0 else { throw failure() }
        return PixelImage(
          width: Int(image.width), height: Int(image.height), channels: channels, bytes: pixels)
      }
    }

    private static func decodeJPEG(_ bytes: [UInt8], _ name: String) throws -> PixelImage {
      guard let decoder = tjInitDecompress() else {
        throw PeatError.inputOutput("libturbojpeg does not start.")
      }
      defer { tjDestroy(decoder) }
      func failure() -> PeatError {
        PeatError.badData(
          "'\(name)' is no whole JPEG: \(String(cString: tjGetErrorStr2(decoder))).")
      }
      var width: Int32 = 0
      var height: Int32 = 0
      var subsampling: Int32 = 0
      var colours: Int32 = 0
      guard
        tjDecompressHeader3(
          decoder, bytes, UInt(bytes.count), &width, &height, &subsampling, &colours) == 0
      else { throw failure() }
      try checkSize(Int(width), Int(height), name)
      guard colours != TJCS_CMYK.rawValue, colours != TJCS_YCCK.rawValue else {
        throw PeatError.badData("'\(name)' is a JPEG in CMYK, for print. Convert it to RGB.")
      }
      let isGrey = colours == TJCS_GRAY.rawValue
      let channels = isGrey ? 1 : 3
      var pixels = [UInt8](repeating: 0, count: Int(width) * Int(height) * channels)
      let format = isGrey ? TJPF_GRAY.rawValue : TJPF_RGB.rawValue
      // Exact, not fast; no picture in part; and no thousands of passes over a small file.
      let flags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS
      guard
        tjDecompress2(
          decoder, bytes, UInt(bytes.count), &pixels, width, 0, height, Int32(format), flags) == 0
      else { throw failure() }
      return PixelImage(
        width: Int(width), height: Int(height), channels: channels, bytes: pixels)
    }
  #else
    private static func decodePNG(_ bytes: [UInt8], _ name: String) throws -> PixelImage {
      throw PeatError.usage("'\(name)': this build reads no PNG; it was made without libpng.")
    }

    private static func decodeJPEG(_ bytes: [UInt8], _ name: String) throws -> PixelImage {
      throw PeatError.usage(
        "'\(name)': this build reads no JPEG; it was made without libturbojpeg.")
    }
  #endif
}
