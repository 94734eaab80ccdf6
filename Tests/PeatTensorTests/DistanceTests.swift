import PeatTensor
import TestSupport
import Testing

@Suite("distance") struct DistanceTests {
  @Test(arguments: [0, 1, 7, 8, 9, 100])
  func `the extent is that of a plain loop`(count: Int) {
    var random = SeededRandom(seed: 3, "extent \(count)")
    let values = randomTensor([count], &random, scale: 1)
    let others = randomTensor([count], &random, scale: 1)
    let (a, b) = (values.scalars, others.scalars)
    let extent = values.extent(from: others)
    #expect(extent.largest == a.map(abs).max() ?? 0)
    var square = 0.0
    for (value, from) in zip(a, b) {
      let difference = Double(value) - Double(from)
      square += difference * difference
    }
    #expect(abs(extent.squaredDistance - square) <= 1e-12 * (1 + square))
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func `a value that is no number shows in the distance, wherever it is`(value: Float) {
    for place in [0, 7, 8, 12] {
      var scalars = [Float](repeating: 1, count: 13)
      scalars[place] = value
      let extent = Tensor(scalars).extent(from: Tensor(zeros: [13]))
      #expect(!extent.squaredDistance.isFinite, "at \(place)")
    }
  }

  @Test func `the largest value may be negative`() {
    let values = Tensor([1, -5, 2, 0, 0, 0, 0, 0, 3])
    let extent = values.extent(from: Tensor(zeros: [9]))
    #expect(extent.largest == 5)
    #expect(extent.squaredDistance == 39)
  }
}
