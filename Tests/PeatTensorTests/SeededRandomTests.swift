import Foundation
import PeatTensor
import Testing

/// The expected numbers come from an independent implementation of xoshiro256**, SplitMix64, FNV-1a, Lemire's and
/// Box and Muller's methods in Python.
@Suite("SeededRandom") struct SeededRandomTests {
  @Test(
    arguments: [
      (
        0,
        [
          0x99ec_5f36_cb75_f2b4, 0xbf6e_1f78_4956_452a, 0x1a5f_849d_4933_e6e0,
          0x6aa5_94f1_262d_2d2c,
        ]
      ),
      (
        1,
        [
          0xb3f2_af6d_0fc7_10c5, 0x853b_5596_4736_4cea, 0x92f8_9756_082a_4514,
          0x642e_1c7b_c266_a3a7,
        ]
      ),
      (
        20_231_017,
        [
          0x505a_8ee7_0c8c_8514, 0x215b_6839_7eeb_529b, 0xd05c_cb22_bd3c_d46d,
          0x8ac6_2c04_7c8f_75dd,
        ]
      ),
      (
        .max,
        [
          0x8f55_20d5_2a7e_ad08, 0xc476_a018_caa1_802d, 0x81de_31c0_d260_469e,
          0xbf65_8d7e_065f_3c2f,
        ]
      ),
    ] as [(UInt64, [UInt64])])
  func `the sequence of a seed is fixed`(seed: UInt64, expected: [UInt64]) {
    var random = SeededRandom(seed: seed)
    #expect((0..<4).map { _ in random.next() } == expected)
  }

  @Test func `the thousandth number is fixed too`() {
    var random = SeededRandom(seed: 0)
    for _ in 0..<999 { _ = random.next() }
    #expect(random.next() == 0x7aac_8c48_3a2e_dd2f)
  }

  @Test func `a label gives a stream of its own`() {
    var random = SeededRandom(seed: 7, "client 3, round 2")
    #expect(
      (0..<3).map { _ in random.next() }
        == [0x85f4_b8b4_87b1_2db5, 0x13dd_d9c7_9f44_f9c5, 0xefd3_3136_114c_2708])
    var empty = SeededRandom(seed: 1, "")
    #expect(empty.next() == 0x2016_3e00_ad83_02a6)
    #expect(SeededRandom(seed: 7, "a") != SeededRandom(seed: 7, "b"))
  }

  @Test func `uniform numbers, integers, normal numbers and orders are fixed`() {
    var random = SeededRandom(seed: 1)
    #expect(
      (0..<4).map { _ in random.uniform() }
        == [0.702_921_8, 0.520_436_6, 0.574_105_7, 0.391_328_57])
    random = SeededRandom(seed: 1)
    #expect(
      (0..<12).map { _ in random.integer(below: 10) } == [7, 5, 5, 3, 6, 1, 0, 3, 8, 5, 9, 9])
    random = SeededRandom(seed: 1)
    // A bound at which a quarter of all draws is refused.
    #expect(
      (0..<5).map { _ in random.integer(below: 1 << 62 + 12_345) } == [
        3_241_654_790_026_028_566, 2_400_090_283_649_641_555, 2_647_595_229_880_429_812,
        1_804_684_642_647_391_176, 3_215_167_955_998_928_699,
      ])
    random = SeededRandom(seed: 1)
    let normal = [
      -1.545_222_837_140_293_4, -1.013_647_639_728_394_2, 0.958_297_146_095_735_4,
      -0.281_809_776_953_530_9, -1.904_134_633_625_434_3,
    ]
    for expected in normal { #expect(abs(Double(random.normal()) - expected) < 1.2e-7) }
    random = SeededRandom(seed: 1)
    #expect(random.shuffled(Array(0..<10)) == [3, 6, 1, 5, 0, 9, 2, 8, 4, 7])
  }

  @Test func `numbers stay in their range and fill it evenly`() {
    var random = SeededRandom(seed: 5)
    var counts = Array(repeating: 0, count: 7)
    var sum = 0.0
    var squares = 0.0
    #expect((0..<70_000).map { _ in random.uniform() }.allSatisfy { $0 >= 0 && $0 < 1 })
    for _ in 0..<70_000 {
      counts[random.integer(below: 7)] += 1
      let normal = Double(random.normal())
      sum += normal
      squares += normal * normal
    }
    // Five standard deviations of a binomial count, of a mean and of a mean square.
    for count in counts { #expect(abs(Double(count) - 10_000) < 5 * 93) }
    #expect(abs(sum / 70_000) < 5 / 70_000.0.squareRoot())
    #expect(abs(squares / 70_000 - 1) < 5 * (2 / 70_000.0).squareRoot())
    #expect((0..<1000).allSatisfy { _ in random.integer(below: 1) == 0 })
  }

  @Test func `a range's upper end is never reached, however narrow the range`() {
    var random = SeededRandom(seed: 6)
    for (low, high) in [(16_777_216, 16_777_218), (1, Float(1).nextUp), (-3, 5)] as [(Float, Float)]
    {
      let values = (0..<2000).map { _ in random.uniform(low, high) }
      #expect(values.allSatisfy { $0 >= low && $0 < high })
    }
    #expect(random.uniform(2, 2) == 2)
  }

  @Test func `the state survives the way through JSON`() throws {
    var random = SeededRandom(seed: 8)
    for _ in 0..<17 { _ = random.next() }
    var copy = try JSONDecoder().decode(SeededRandom.self, from: JSONEncoder().encode(random))
    #expect(copy == random)
    #expect((0..<100).map { _ in copy.next() } == (0..<100).map { _ in random.next() })
  }

  @Test func `shuffling keeps every element`() {
    var random = SeededRandom(seed: 9)
    #expect(random.shuffled([Int]()) == [])
    #expect(random.shuffled([4]) == [4])
    #expect(random.shuffled(Array(0..<100)).sorted() == Array(0..<100))
  }
}
