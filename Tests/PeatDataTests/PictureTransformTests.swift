import PeatData
import PeatTensor
import TestSupport
import Testing

@Suite("PictureTransform") struct PictureTransformTests {
  /// 1 2 3
  /// 4 5 6
  private let image = PixelImage(width: 3, height: 2, channels: 1, bytes: [1, 2, 3, 4, 5, 6])

  private func transformed(_ word: String) throws -> PixelImage {
    try PictureTransform(word)(image)
  }

  @Test func `pictures turn to the left by quarters`() throws {
    let once = try transformed("rotate=90")
    #expect(once.width == 2 && once.height == 3 && once.bytes == [3, 6, 2, 5, 1, 4])
    #expect(try transformed("rotate=180").bytes == [6, 5, 4, 3, 2, 1])
    #expect(try transformed("rotate=270").bytes == [4, 1, 5, 2, 6, 3])
    #expect(try transformed("none") == image)
    #expect(try transformed("rotate=90+rotate=180+rotate=90") == image)
  }

  @Test func `light becomes dark, and what is transparent stays so`() throws {
    #expect(try transformed("invert").bytes == [254, 253, 252, 251, 250, 249])
    #expect(try transformed("invert+invert") == image)
    #expect(try transformed("rotate=90+invert").bytes == [252, 249, 253, 250, 254, 251])
    let clear = PixelImage(width: 1, height: 1, channels: 4, bytes: [0, 100, 255, 7])
    #expect(try PictureTransform("invert")(clear).bytes == [255, 155, 0, 7])
    let colour = PixelImage(width: 2, height: 1, channels: 3, bytes: [1, 2, 3, 4, 5, 6])
    let turned = try PictureTransform("rotate=90")(colour)
    #expect(turned.width == 1 && turned.height == 2 && turned.bytes == [4, 5, 6, 1, 2, 3])
  }

  @Test func `words are what they were read from`() throws {
    for word in PictureTransform.words + ["rotate=90+invert", "invert+rotate=270"] {
      #expect(try PictureTransform(word).description == word)
    }
  }

  @Test(arguments: ["", "rotate", "rotate=45", "rotate=90+", "Invert", "none,invert", "mirror"])
  func `other words are refused with those there are`(word: String) {
    expectError(.usage, "rotate=270") { _ = try PictureTransform(word) }
  }

  @Test func `a text has no picture to change`() {
    expectError(.usage, "a text: 'abc…'") {
      _ = try Document("abc").transformed(by: PictureTransform("none"))
    }
  }
}
