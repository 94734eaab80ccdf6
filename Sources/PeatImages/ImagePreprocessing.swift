import Foundation
import PeatData
import PeatTensor

/// What is done to a picture before a model sees it, as a checkpoint's preprocessor_config.json says.
///
/// In this order, each where it is asked for: resize, crop around the middle, divide by 255, subtract the mean and divide by the
/// deviation of each channel.
///
/// Source: `ViTImageProcessor` and `CLIPImageProcessor` of transformers.
public struct ImagePreprocessing: Sendable, Equatable {
  public struct Area: Sendable, Equatable {
    public var width: Int
    public var height: Int

    public init(width: Int, height: Int) {
      self.width = width
      self.height = height
    }
  }

  public enum Size: Sendable, Equatable {
    case exact(Area)
    /// The shorter side; the other follows.
    case shortestEdge(Int)
  }

  public var resize: Size?
  public var filter: ResizeFilter
  public var crop: Area?
  /// Whether what is transparent is laid on white first, as `do_convert_rgb` does; else transparency is dropped.
  public var isOnWhite: Bool
  /// What a byte is multiplied by.
  public var scale: Float
  /// By channel: one for grey, three for colour; what has one channel is spread over three where there are three.
  public var mean: [Float]
  public var deviation: [Float]

  /// Nothing but dividing by 255.
  public init(
    resize: Size? = nil, filter: ResizeFilter = .bilinear, crop: Area? = nil,
    isOnWhite: Bool = false, scale: Float = 1 / 255, mean: [Float] = [], deviation: [Float] = []
  ) {
    self.isOnWhite = isOnWhite
    self.resize = resize
    self.filter = filter
    self.scale = scale
    self.mean = mean
    self.deviation = deviation
    self.crop = crop
  }

  /// Largest side that may be asked for.
  private static let sideLimit = 8192

  /// Reads a preprocessor_config.json.
  ///
  /// - Throws: `badData` where it asks for something that is not known here.
  public init(contentsOf url: URL) throws {
    try self.init(JSONFile.read(JSONValue.self, from: url), name: url.path)
  }

  package init(_ file: JSONValue, name: String) throws {
    let json = Self.completed(file)
    func isOn(_ key: String, else standard: Bool) -> Bool { json[key]?.bool ?? standard }
    func wrong(_ key: String, _ expected: String) -> PeatError {
      PeatError.badData("'\(name)': \(key) does not fit; expected \(expected).")
    }
    func side(_ value: JSONValue?, _ key: String) throws -> Int {
      guard let side = value?.integer, (1...ImagePreprocessing.sideLimit).contains(side) else {
        throw wrong(key, "pixels from 1 to \(ImagePreprocessing.sideLimit)")
      }
      return side
    }
    func area(_ value: JSONValue?, _ key: String) throws -> Area {
      Area(
        width: try side(value?["width"], "\(key).width"),
        height: try side(value?["height"], "\(key).height"))
    }
    func floats(_ key: String) throws -> [Float] {
      guard let values = json[key]?.array?.map({ $0.number }), [1, 3].contains(values.count),
        values.allSatisfy({ $0?.isFinite == true })
      else { throw wrong(key, "one number or three") }
      return values.compactMap { $0.map(Float.init) }
    }
    self.init()
    isOnWhite = isOn("do_convert_rgb", else: false)
    if isOn("do_resize", else: json["size"] != nil) {
      let size = json["size"]
      if let edge = size?["shortest_edge"] {
        resize = .shortestEdge(try side(edge, "size.shortest_edge"))
      } else if size?.object != nil {
        resize = .exact(try area(size, "size"))
      } else {
        let edge = try side(size, "size")
        // A single number: the shorter side where a crop follows, as older files of CLIP mean it; else both.
        resize =
          isOn("do_center_crop", else: false)
          ? .shortestEdge(edge) : .exact(Area(width: edge, height: edge))
      }
      let number = json["resample"]?.integer ?? ResizeFilter.bilinear.rawValue
      guard let known = ResizeFilter(rawValue: number) else {
        throw wrong("resample", "2 (bilinear) or 3 (bicubic), not \(number)")
      }
      filter = known
    }
    if isOn("do_center_crop", else: false) {
      let size = json["crop_size"]
      if size?.object == nil {
        let edge = try side(size, "crop_size")
        crop = Area(width: edge, height: edge)
      } else {
        crop = try area(size, "crop_size")
      }
    }
    if isOn("do_rescale", else: true) {
      if let factor = json["rescale_factor"], !factor.isNull {
        guard let number = factor.number, number.isFinite else {
          throw wrong("rescale_factor", "a number")
        }
        scale = Float(number)
      }
    } else {
      scale = 1
    }
    if isOn("do_normalize", else: json["image_mean"] != nil) {
      mean = try floats("image_mean")
      deviation = try floats("image_std")
      guard mean.count == deviation.count, deviation.allSatisfy({ $0 > 0 }) else {
        throw wrong("image_std", "as many numbers as image_mean has, above 0")
      }
    }
  }

  /// What a file leaves out, as its processor's class has it.
  private static func completed(_ json: JSONValue) -> JSONValue {
    guard let stated = json.object,
      let kind = (json["image_processor_type"] ?? json["feature_extractor_type"])?.string
    else { return json }
    let half = JSONValue.array([.number(0.5), .number(0.5), .number(0.5)])
    let square = JSONValue.object(["height": .integer(224), "width": .integer(224)])
    let usual: [String: JSONValue] =
      kind.hasPrefix("CLIP")
      ? [
        "do_resize": .bool(true), "size": .object(["shortest_edge": .integer(224)]),
        "resample": .integer(ResizeFilter.bicubic.rawValue), "do_center_crop": .bool(true),
        "crop_size": square, "do_convert_rgb": .bool(true), "do_normalize": .bool(true),
        "image_mean": .array([.number(0.48145466), .number(0.4578275), .number(0.40821073)]),
        "image_std": .array([.number(0.26862954), .number(0.26130258), .number(0.27577711)]),
      ]
      : kind.hasPrefix("ViT")
        ? [
          "do_resize": .bool(true), "size": square,
          "resample": .integer(ResizeFilter.bilinear.rawValue), "do_normalize": .bool(true),
          "image_mean": half, "image_std": half,
        ] : [:]
    return .object(usual.merging(stated) { $1 })
  }

  /// As timm prepares pictures for a model: its config.json's `pretrained_cfg`.
  ///
  /// Source: `create_transform` of timm: the shorter side becomes ⌊side / crop_pct⌋, then a crop around the middle.
  ///
  /// - Parameters:
  ///   - width, height: of the model's pictures.
  /// - Throws: `badData` where it asks for something that is not known here.
  package init(timm json: JSONValue, width: Int, height: Int, name: String) throws {
    func refuse(_ key: String, _ expected: String) -> PeatError {
      PeatError.badData("'\(name)': pretrained_cfg's \(key) does not fit; expected \(expected).")
    }
    let share = json["crop_pct"]?.number ?? 0.875
    guard share > 0, share <= 1 else { throw refuse("crop_pct", "a number above 0, at most 1") }
    guard width == height || share == 1 else {
      throw refuse("crop_pct", "1, where pictures are not square")
    }
    guard json["crop_mode"]?.string ?? "center" == "center" else {
      throw refuse("crop_mode", "center")
    }
    let edge = (Double(width) / share).rounded(.down)
    guard edge <= Double(Self.sideLimit) else {
      throw refuse("crop_pct", "one that makes pictures of at most \(Self.sideLimit)")
    }
    let filters: [String: ResizeFilter] = ["bilinear": .bilinear, "bicubic": .bicubic]
    guard let filter = filters[json["interpolation"]?.string ?? "bicubic"] else {
      throw refuse("interpolation", "bilinear or bicubic")
    }
    func floats(_ key: String) throws -> [Float] {
      let values = json[key]?.array?.map(\.number) ?? [0.5, 0.5, 0.5]
      guard [1, 3].contains(values.count), values.allSatisfy({ $0?.isFinite == true }) else {
        throw refuse(key, "one number or three")
      }
      return values.compactMap { $0.map(Float.init) }
    }
    let (mean, deviation) = (try floats("mean"), try floats("std"))
    guard mean.count == deviation.count, deviation.allSatisfy({ $0 > 0 }) else {
      throw refuse("std", "as many numbers as mean has, above 0")
    }
    self.init(
      resize: width == height
        ? .shortestEdge(Int(edge)) : .exact(Area(width: width, height: height)),
      filter: filter, crop: Area(width: width, height: height), mean: mean, deviation: deviation)
  }

  /// The picture as a model sees it.
  ///
  /// - Returns: `[channels, height, width]`: three channels where the means are three, else as many as the picture has without its
  ///   transparency.
  public func tensor(of image: PixelImage) throws -> Tensor {
    var image = image
    if mean.count == 3 || image.channels == 4 { image = isOnWhite ? image.onWhite : image.rgb }
    if mean.count == 1 { image = image.grey }
    switch resize {
    case nil: break
    case .exact(let area):
      image = image.resized(width: area.width, height: area.height, filter)
    case .shortestEdge(let edge):
      let short = min(image.width, image.height)
      let long = edge * max(image.width, image.height) / short
      guard long * edge <= PixelImage.pixelLimit else {
        throw PeatError.badData(
          "A picture of \(image.width) × \(image.height) pixels is too narrow: with a shorter side of \(edge) the longer one would "
            + "have \(long).")
      }
      image =
        image.width <= image.height
        ? image.resized(width: edge, height: long, filter)
        : image.resized(width: long, height: edge, filter)
    }
    if let crop { image = image.centerCropped(width: crop.width, height: crop.height) }
    let area = image.width * image.height
    var values = [Float](repeating: 0, count: image.bytes.count)
    for channel in 0..<image.channels {
      let mean = mean.isEmpty ? 0 : mean[channel]
      let deviation = deviation.isEmpty ? 1 : deviation[channel]
      for place in 0..<area {
        let value = Float(image.bytes[place * image.channels + channel]) * scale
        values[channel * area + place] = (value - mean) / deviation
      }
    }
    return Tensor(values, shape: [image.channels, image.height, image.width])
  }
}
