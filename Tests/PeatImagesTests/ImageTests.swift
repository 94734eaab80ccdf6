import Foundation
import PeatData
import PeatImages
import PeatTensor
import TestSupport
import Testing

/// Golden/images: what Pillow makes of small pictures.
private enum Golden {
  static let folder = ProjectFolders.golden.appendingPathComponent("images")

  static func file(_ name: String) -> URL { folder.appendingPathComponent(name) }

  static func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: file(name))) }

  static func tensor(_ name: String) throws -> Tensor {
    try SafeTensorsFile(contentsOf: file("expected.safetensors")).tensor(named: name)
  }

  /// An expected picture, stored as `[height, width, channels]`.
  static func image(_ name: String) throws -> PixelImage {
    let tensor = try tensor(name)
    return PixelImage(
      width: tensor.shape[1], height: tensor.shape[0], channels: tensor.shape[2],
      bytes: tensor.scalars.map { UInt8($0) })
  }
}

/// The largest difference of two pictures' bytes.
private func difference(_ one: PixelImage, _ other: PixelImage) -> Int {
  guard one.width == other.width, one.height == other.height, one.channels == other.channels
  else { return .max }
  return zip(one.bytes, other.bytes).map { abs(Int($0) - Int($1)) }.max() ?? 0
}

@Suite("ImageFile") struct ImageFileTests {
  @Test(arguments: ["grey.png", "rgb.png", "rgba.png", "palette.png", "photo.png"])
  func `PNG is read as Pillow reads it`(name: String) throws {
    let image = try ImageFile.read(Golden.file(name))
    #expect(try difference(image, Golden.image(name)) == 0)
    #expect(try difference(image.rgb, Golden.image("\(name).rgb")) == 0)
    #expect(try difference(image.grey, Golden.image("\(name).grey")) == 0)
  }

  /// Versions of libjpeg-turbo may round the colours of a half-sized plane otherwise.
  @Test(arguments: ["photo.jpg", "full.jpg", "grey.jpg"])
  func `JPEG is read as Pillow reads it, but for rounding`(name: String) throws {
    let image = try ImageFile.read(Golden.file(name))
    #expect(try difference(image, Golden.image(name)) <= 1)
    #expect(image.channels == (name == "grey.jpg" ? 1 : 3))
  }

  @Test(arguments: ["rgb.png", "palette.png", "photo.jpg", "grey.jpg"])
  func `a file that ends early is refused wherever it ends`(name: String) throws {
    let bytes = try Golden.bytes(name)
    // What closes a PNG or a JPEG holds no pixels; all before it is needed.
    for count in stride(from: 0, to: bytes.count - 14, by: max(1, bytes.count / 60)) {
      expectError(.badData, "cut.png") {
        _ = try ImageFile.decode(Array(bytes[..<count]), name: "cut.png")
      }
    }
  }

  @Test(arguments: ["rgb.png", "photo.jpg"])
  func `a damaged file gives a picture or an error, never more`(name: String) throws {
    let bytes = try Golden.bytes(name)
    var random = SeededRandom(seed: 1, name)
    for _ in 0..<2000 {
      var damaged = bytes
      for _ in 0..<random.integer(below: 4) + 1 {
        damaged[random.integer(below: damaged.count)] = UInt8(random.integer(below: 256))
      }
      do {
        let image = try ImageFile.decode(damaged, name: "x")
        #expect(image.bytes.count == image.width * image.height * image.channels)
      } catch let error as PeatError {
        #expect(error.code == .badData)
      }
    }
  }

  @Test func `a size that no memory has is refused before it is decoded`() throws {
    // The width and height of a PNG lie at 16 and 20; the checksum over them is right again.
    var bytes = try Golden.bytes("rgb.png")
    bytes.replaceSubrange(16..<24, with: [0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF])
    let checksum = crc32(bytes[12..<29])
    bytes.replaceSubrange(
      29..<33, with: (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (24 - 8 * $0)) })
    expectError(.badData, "65535 × 65535") {
      _ = try ImageFile.decode(bytes, name: "large.png")
    }
    // A JPEG's lie behind FF C0, three bytes on.
    var jpeg = try Golden.bytes("photo.jpg")
    let frame = try #require(
      jpeg.indices.first { jpeg[$0] == 0xFF && $0 + 9 < jpeg.count && jpeg[$0 + 1] == 0xC0 })
    jpeg.replaceSubrange((frame + 5)..<(frame + 9), with: [0xFF, 0xDC, 0xFF, 0xDC])
    expectError(.badData, "65500 × 65500") {
      _ = try ImageFile.decode(jpeg, name: "large.jpg")
    }
  }

  @Test func `what is no picture says so`() throws {
    expectError(.badData, "neither PNG nor JPEG") {
      _ = try ImageFile.decode(Array("GIF89a".utf8), name: "x.gif")
    }
    expectError(.badData, "neither") { _ = try ImageFile.decode([], name: "x.png") }
    try withTemporaryFolder { folder in
      expectError(.inputOutput, "no picture") {
        _ = try ImageFile.read(folder.appendingPathComponent("absent.png"))
      }
      expectError(.inputOutput, "no plain file") { _ = try ImageFile.read(folder) }
    }
  }

  /// The checksum of PNG, bit by bit.
  private func crc32(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    ~bytes.reduce(UInt32.max) { sum, byte in
      (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in
        value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1
      }
    }
  }
}

@Suite("Resizing") struct ResizeTests {
  @Test(
    arguments: [(8, 8), (37, 10), (11, 23), (60, 41), (1, 1), (20, 12)],
    [ResizeFilter.bilinear, .bicubic])
  func `is Pillow's, byte by byte`(size: (Int, Int), filter: ResizeFilter) throws {
    let photo = try ImageFile.read(Golden.file("photo.png"))
    let resized = photo.resized(width: size.0, height: size.1, filter)
    #expect(
      try difference(resized, Golden.image("photo.\(size.0)x\(size.1).\(filter)")) == 0)
  }

  @Test func `half the size is a weighted mean that can be counted by hand`() {
    let image = PixelImage(width: 4, height: 1, channels: 1, bytes: [0, 80, 160, 240])
    // Of the first: weights 3/8, 3/8, 1/8 of pixels 0, 1 and 2, over their sum 7/8.
    #expect(
      image.resized(width: 2, height: 1, .bilinear).bytes == [57, 183])
    #expect(image.resized(width: 4, height: 1, .bicubic) == image)
  }

  @Test func `a crop is around the middle, and black where nothing is`() {
    let image = PixelImage(width: 3, height: 2, channels: 1, bytes: [1, 2, 3, 4, 5, 6])
    #expect(image.centerCropped(width: 1, height: 2).bytes == [2, 5])
    #expect(image.centerCropped(width: 5, height: 2).bytes == [0, 1, 2, 3, 0, 0, 4, 5, 6, 0])
  }
}

@Suite("ImagePreprocessing") struct ImagePreprocessingTests {
  private func expect(
    _ name: String, _ json: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("preprocessor_config.json")
      try Data(json.utf8).write(to: url)
      let preprocessing = try ImagePreprocessing(contentsOf: url)
      let own = try preprocessing.tensor(of: ImageFile.read(Golden.file("photo.png")))
      let expected = try Golden.tensor(name)
      #expect(own.shape == expected.shape, sourceLocation: sourceLocation)
      let difference = zip(own.scalars, expected.scalars).map { abs($0 - $1) }.max() ?? 1
      #expect(difference < 1e-6, sourceLocation: sourceLocation)
    }
  }

  @Test func `is what transformers does for ViT and CLIP`() throws {
    try expect(
      "photo.vit",
      """
      {"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
       "image_processor_type": "ViTImageProcessor", "resample": 2, "size": {"height": 8, "width": 8}}
      """)
    try expect(
      "photo.vit", #"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 8}"#)
    try expect(
      "photo.clip",
      """
      {"crop_size": {"height": 10, "width": 10}, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
       "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
       "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "rescale_factor": 0.00392156862745098,
       "size": {"shortest_edge": 12}}
      """)
  }

  /// Golden/images/processors: what CLIPImageProcessor and ViTImageProcessor of transformers make of them.
  @Test(
    arguments: ["clip", "clip-odd", "clip-larger-crop", "clip-no-crop", "vit"],
    ["photo.png", "rgba.png", "grey.png", "palette.png", "full.jpg"])
  func `is what transformers' own processors do`(processor: String, picture: String) throws {
    let all = try JSONFile.read(JSONValue.self, from: Golden.file("processors.json"))
    let json = try #require(all[processor])
    let own = try ImagePreprocessing(json, name: processor)
      .tensor(of: ImageFile.read(Golden.file(picture)))
    let expected = try SafeTensorsFile(contentsOf: Golden.file("processors.safetensors"))
      .tensor(named: "\(processor).\(picture)")
    #expect(own.shape == expected.shape)
    let difference = zip(own.scalars, expected.scalars).map { abs($0 - $1) }.max() ?? 1
    // Versions of libjpeg-turbo may differ by one of 255, which normalising makes about 0.015.
    #expect(difference < (picture.hasSuffix("jpg") ? 0.02 : 1e-6), "\(difference)")
  }

  private func json(_ text: String) throws -> JSONValue {
    try JSONFile.decode(JSONValue.self, from: Data(text.utf8), name: "x")
  }

  @Test func `what a file leaves out is as its class has it`() throws {
    func read(_ text: String) throws -> ImagePreprocessing {
      try ImagePreprocessing(json(text), name: "x")
    }
    let clip = try read(#"{"image_processor_type": "CLIPImageProcessor"}"#)
    #expect(clip.resize == .shortestEdge(224) && clip.filter == .bicubic)
    #expect(clip.crop == .init(width: 224, height: 224) && clip.mean.first == 0.48145466)
    let older = try read(
      #"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 30}"#)
    #expect(older.resize == .shortestEdge(32) && older.crop == .init(width: 30, height: 30))
    let vit = try read(#"{"image_processor_type": "ViTImageProcessor", "do_normalize": false}"#)
    #expect(vit.resize == .exact(.init(width: 224, height: 224)) && vit.mean.isEmpty)
  }

  @Test func `timm's pretrained_cfg says it too`() throws {
    func read(_ text: String, _ width: Int = 224, _ height: Int = 224) throws
      -> ImagePreprocessing
    {
      try ImagePreprocessing(timm: json(text), width: width, height: height, name: "x")
    }
    let own = try read(
      #"{"crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5], "std": [0.25]}"#)
    #expect(own.resize == .shortestEdge(256) && own.crop == .init(width: 224, height: 224))
    #expect(own.filter == .bicubic && own.mean == [0.5] && own.deviation == [0.25])
    let whole = try read(#"{"crop_pct": 1}"#, 8, 4)
    #expect(whole.resize == .exact(.init(width: 8, height: 4)) && whole.mean.count == 3)
    for text in [
      #"{"crop_pct": 0}"#, #"{"crop_pct": 1e-9}"#, #"{"crop_mode": "border"}"#,
      #"{"interpolation": "lanczos"}"#, #"{"mean": [1, 2]}"#, #"{"std": [0, 1, 1]}"#,
      #"{"mean": [0.5]}"#,
    ] { expectError(.badData, "pretrained_cfg") { _ = try read(text) } }
    expectError(.badData, "not square") { _ = try read("{}", 8, 4) }
  }

  @Test func `without a configuration, bytes become 0 to 1`() throws {
    let image = PixelImage(width: 2, height: 1, channels: 3, bytes: [0, 51, 255, 255, 102, 0])
    let tensor = try ImagePreprocessing().tensor(of: image)
    #expect(tensor.shape == [3, 1, 2])
    #expect(zip(tensor.scalars, [0, 1, 0.2, 0.4, 1, 0]).allSatisfy { abs($0 - $1) < 1e-6 })
    #expect(zip(image.tensor.scalars, tensor.scalars).allSatisfy { abs($0 - $1) < 1e-6 })
  }

  @Test(
    arguments: [
      #"{"size": 0}"#, #"{"size": {"height": 8}}"#, #"{"size": 8, "resample": 1}"#,
      #"{"size": {"shortest_edge": 100000}}"#, #"{"do_center_crop": true}"#,
      #"{"image_mean": [0.5, 0.5]}"#, #"{"image_mean": [0.5], "image_std": [0]}"#,
      #"{"image_mean": "x"}"#, #"{"rescale_factor": "x"}"#, "[",
    ])
  func `a configuration that makes no sense is refused`(json: String) throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("preprocessor_config.json")
      try Data(json.utf8).write(to: url)
      expectError(.badData, "preprocessor_config.json") {
        _ = try ImagePreprocessing(contentsOf: url)
      }
    }
  }

  @Test func `a picture like a thread does not fill memory`() throws {
    let thread = PixelImage(
      width: 100_000, height: 1, channels: 1, bytes: Array(repeating: 0, count: 100_000))
    expectError(.badData, "too narrow") {
      _ = try ImagePreprocessing(resize: .shortestEdge(224)).tensor(of: thread)
    }
  }
}

@Suite("LabelledImages") struct LabelledImagesTests {
  @Test func `a folder for each class`() throws {
    try withTemporaryFolder { folder in
      let files = FileManager.default
      for name in ["cat", "ant", ".hidden"] {
        try files.createDirectory(
          at: folder.appendingPathComponent(name), withIntermediateDirectories: true)
      }
      func copy(_ source: String, _ target: String) throws {
        try files.copyItem(at: Golden.file(source), to: folder.appendingPathComponent(target))
      }
      try copy("rgb.png", "cat/2.PNG")
      try copy("photo.jpg", "cat/1.jpeg")
      try copy("grey.png", "ant/x.png")
      try copy("grey.png", "not-in-a-class.png")
      try Data("no picture".utf8).write(to: folder.appendingPathComponent("ant/notes.txt"))
      let images = try LabelledImages(folder: folder)
      #expect(images.classes == ["ant", "cat"])
      #expect(images.labels == [0, 1, 1])
      #expect(try images.image(1).width == 37)
      #expect(images.documents.map { $0.fields["label"] } == ["ant", "cat", "cat"])
      let parts = try DirichletPartitioner(field: "label", alpha: 1, seed: 0)
        .partition(images.documents, clients: 2)
      #expect(parts.flatMap { $0 }.sorted() == [0, 1, 2])
    }
    try withTemporaryFolder { folder in
      expectError(.badData, "no pictures") { _ = try LabelledImages(folder: folder) }
      expectError(.inputOutput) {
        _ = try LabelledImages(folder: folder.appendingPathComponent("absent"))
      }
    }
  }

  @Test(arguments: ["", ".gz"]) func `idx files as MNIST is published`(ending: String) throws {
    let images = try LabelledImages(
      images: Golden.file("t10k-8.idx3\(ending)"), labels: Golden.file("t10k-8.idx1\(ending)"))
    #expect(images.count == 8 && images.labels == [7, 2, 1, 0, 4, 1, 4, 9])
    #expect(images.classes.count == 10)
    let expected = try Golden.tensor("digits").scalars
    for number in 0..<8 {
      let image = try images.image(number)
      #expect(image.width == 28 && image.height == 28)
      #expect(
        image.bytes.map { Float($0) } == Array(expected[(784 * number)..<(784 * number + 784)]))
    }
    expectError(.badData, "[N, height, width]") {
      _ = try LabelledImages(
        images: Golden.file("t10k-8.idx1"), labels: Golden.file("t10k-8.idx1"))
    }
    expectError(.badData, "8 labels") {
      _ = try LabelledImages(
        images: Golden.file("t10k-8.idx3"), labels: Golden.file("t10k-8.idx3"))
    }
  }

  @Test(.needsAssets("images/mnist-t10k")) func `MNIST's ten thousand test digits`() throws {
    let folder = try #require(ProjectFolders.asset("images/mnist-t10k"))
    let images = try LabelledImages(
      images: folder.appendingPathComponent("t10k-images-idx3-ubyte.gz"),
      labels: folder.appendingPathComponent("t10k-labels-idx1-ubyte.gz"))
    #expect(images.count == 10_000)
    #expect(images.labels.prefix(4) == [7, 2, 1, 0])
    let report = try PartitionReport(
      [DocumentGroup(name: "all", documents: images.documents)], field: "label")
    #expect(report.labels["0"] == 980 && report.labels["1"] == 1135)
  }
}

@Suite("IdxFile") struct IdxFileTests {
  private func read(_ bytes: [UInt8]) throws -> IdxFile {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("x.idx")
      try Data(bytes).write(to: url)
      return try IdxFile(contentsOf: url)
    }
  }

  @Test func `header and values`() throws {
    let file = try read([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4])
    #expect(file.kind == .int16 && file.shape == [1, 2] && file.bytes == [1, 2, 3, 4])
    #expect(try read([0, 0, 8, 1, 0, 0, 0, 0]).bytes.isEmpty)
  }

  @Test(
    arguments: [
      [], [0, 0, 8], [1, 0, 8, 1, 0, 0, 0, 0], [0, 0, 7, 1, 0, 0, 0, 0], [0, 0, 8, 0],
      [0, 0, 8, 9] + Array(repeating: 0, count: 36), [0, 0, 8, 1, 0, 0, 0],
      [0, 0, 8, 1, 0, 0, 0, 2, 1], [0, 0, 8, 1, 0, 0, 0, 1, 1, 1],
      [0, 0, 14, 3] + Array(repeating: 255, count: 12),
    ] as [[UInt8]])
  func `what is no idx file, or not whole, is refused`(bytes: [UInt8]) {
    expectError(.badData, "x.idx") { _ = try read(bytes) }
  }

  @Test func `gzip that is damaged, or hides more than it says, is refused`() throws {
    let packed = try Golden.bytes("t10k-8.idx3.gz")
    for count in stride(from: 2, to: packed.count - 1, by: 97) {
      expectError(.badData) { _ = try read(Array(packed[..<count])) }
    }
    var random = SeededRandom(seed: 2, "gzip")
    for _ in 0..<500 {
      var damaged = packed
      damaged[10 + random.integer(below: packed.count - 10)] ^= UInt8(1 << random.integer(below: 8))
      do { _ = try read(damaged) } catch let error as PeatError {
        #expect(error.code == .badData)
      }
    }
  }
}

@Suite("Folders of pictures") struct PictureFolderTests {
  /// A folder with these files, those that end in .png being a picture.
  private func withFiles(_ names: [String], _ body: (URL) throws -> Void) throws {
    try withTemporaryFolder { folder in
      for name in names {
        let place = folder.appendingPathComponent(name)
        try FileManager.default.createDirectory(
          at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
        let content =
          name.hasSuffix(".png") ? try Data(contentsOf: Golden.file("grey.png")) : Data()
        try content.write(to: place)
      }
      try body(folder)
    }
  }

  @Test(arguments: ["fox/a.webp", "fox/a.gif", "fox/deeper/a.png"])
  func `a class without a picture that can be read does not vanish`(file: String) throws {
    try withFiles(["cat/a.png", "dog/a.png", file]) { folder in
      expectError(.badData, "fox' holds", "the class 'fox' would have no picture", ".png and .jpg")
      {
        _ = try LabelledImages(folder: folder)
      }
    }
  }

  @Test func `a class that is empty does not vanish either`() throws {
    try withFiles(["cat/a.png", "dog/.hidden"]) { folder in
      expectError(.badData, "dog' is empty") { _ = try LabelledImages(folder: folder) }
    }
  }

  @Test func `other files are left out, and told`() throws {
    try withFiles(["cat/a.png", "cat/b.webp", "dog/a.png", "README", ".hidden"]) { folder in
      let images = try LabelledImages(folder: folder)
      #expect(images.classes == ["cat", "dog"] && images.labels == [0, 1])
      #expect(try LabelledImages.filesLeftOut(of: folder) == ["README", "cat/b.webp"])
    }
  }
}
