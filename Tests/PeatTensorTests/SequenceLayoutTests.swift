import PeatTensor
import TestSupport
import Testing

@Suite("SequenceLayout") struct SequenceLayoutTests {
  private func pieces(_ layout: SequenceLayout) -> [[Int]] {
    layout.pieces.map { [$0.sequence, $0.row, $0.count, $0.position, $0.continues ? 1 : 0] }
  }

  @Test func `whole sequences are pieces that begin at position 0`() {
    let layout = SequenceLayout(lengths: [3, 1, 2])
    #expect(pieces(layout) == [[0, 0, 3, 0, 0], [1, 3, 1, 0, 0], [2, 4, 2, 0, 0]])
    #expect(layout.positions == 3 && layout.count == 6)
    #expect(SequenceLayout(rows: 6, length: 2) == SequenceLayout(lengths: [2, 2, 2]))
  }

  @Test func `a part may begin and end inside sequences`() {
    let layout = SequenceLayout(lengths: [3, 1, 4]).part(1..<6)
    #expect(pieces(layout) == [[0, 0, 2, 1, 0], [1, 2, 1, 0, 0], [2, 3, 2, 0, 1]])
    #expect(pieces(layout.part(4..<5)) == [[2, 0, 1, 1, 1]])
    #expect(layout.part(0..<0).pieces.isEmpty)
  }

  @Test func `tokens in a cache stand before each sequence`() {
    let layout = SequenceLayout(rows: 4, length: 2, firstPosition: 7)
    #expect(pieces(layout) == [[0, 0, 2, 7, 0], [1, 2, 2, 7, 0]])
    #expect(layout.positions == 9)
  }

  @Test func `rows are cut evenly, at a border where one is near`() {
    #expect(SequenceLayout(rows: 1024, length: 256).split(into: 2) == [0..<512, 512..<1024])
    #expect(SequenceLayout(lengths: [512]).split(into: 2) == [0..<256, 256..<512])
    #expect(SequenceLayout(lengths: [100, 100, 100]).split(into: 2) == [0..<150, 150..<300])
    #expect(SequenceLayout(lengths: [150, 148]).split(into: 2) == [0..<150, 150..<298])
    for count in 1...40 {
      for parts in 1...9 {
        let cut = SequenceLayout(lengths: [count]).split(into: parts)
        #expect(cut.count == min(count, parts))
        #expect(cut.flatMap { Array($0) } == Array(0..<count))
      }
    }
  }

  @Test func `rows in front lengthen every sequence, and parts still fit together`() {
    let layout = SequenceLayout(lengths: [3, 1, 4])
    let longer = layout.prepending(2)
    #expect(pieces(longer) == [[0, 0, 5, 0, 0], [1, 5, 3, 0, 0], [2, 8, 6, 0, 0]])
    #expect(longer.tokenRows == [2..<5, 7..<8, 10..<14])
    #expect(longer.prependedRows.map(\.row) == [0, 5, 8])
    #expect(longer.prependedRows.allSatisfy { $0.rows == 0..<2 })
    // Whoever holds a sequence's first row holds those in front; nobody else does.
    let first = layout.part(0..<2).prepending(2)
    let second = layout.part(2..<6).prepending(2)
    let third = layout.part(6..<8).prepending(2)
    #expect(pieces(first) == [[0, 0, 4, 0, 1]])
    #expect(pieces(second) == [[0, 0, 1, 4, 0], [1, 1, 3, 0, 0], [2, 4, 4, 0, 1]])
    #expect(pieces(third) == [[2, 0, 2, 4, 0]])
    #expect(second.tokenRows == [0..<1, 3..<4, 6..<8])
    #expect(third.tokenRows == [0..<2] && third.prependedRows.isEmpty)
    #expect(first.count + second.count + third.count == longer.count)
    for cut in 1..<8 {
      let rows = [layout.part(0..<cut), layout.part(cut..<8)].map { $0.prepending(2).rows }
      #expect(rows[0].upperBound == rows[1].lowerBound && rows[1].upperBound == 14)
    }
    // A cache holds them already.
    let cached = SequenceLayout(lengths: [3], firstPosition: 5)
    #expect(cached.prepending(2) == cached)
  }

  @Test func `positions can be counted from later on`() {
    let layout = SequenceLayout(lengths: [2, 3]).prepending(1).part(1..<5).shifted(by: 10)
    #expect(pieces(layout) == [[0, 0, 2, 11, 0], [1, 2, 2, 10, 1]])
    #expect(layout.tokenRows == [0..<2, 3..<4])
    #expect(layout.positions == 13)
  }
}
