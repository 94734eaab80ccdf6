import PeatTensor

/// Finds the merges of byte-pair encoding: again and again, the most frequent pair of neighbours becomes a token.
///
/// Counts change only around a merge, and a pair's place in the queue is corrected when it comes up, so a step costs about as
/// much as the words that it changes.
///
/// Mirrors tokenizers 0.23 `BpeTrainer::do_train`. Source: Sennrich, Haddow, Birch 2016, algorithm 1.
struct MergeLearner {
  struct Pair: Hashable, Comparable {
    let left: Int
    let right: Int
    static func < (a: Pair, b: Pair) -> Bool { (a.left, a.right) < (b.left, b.right) }
  }

  /// A pair that could be merged, how often it was seen when it was queued, and the words that hold it.
  private struct Candidate: Comparable {
    var count: Int
    let pair: Pair
    let words: Set<Int>
    /// The one to merge first is the greatest: more frequent, then the smaller pair.
    static func < (a: Candidate, b: Candidate) -> Bool {
      a.count != b.count ? a.count < b.count : b.pair < a.pair
    }
    static func == (a: Candidate, b: Candidate) -> Bool { a.count == b.count && a.pair == b.pair }
  }

  /// The tokens by number.
  private(set) var tokens: [ByteString]
  /// The merges in the order of their ranks.
  private(set) var merges: [Pair] = []

  private var numbers: [ByteString: Int] = [:]
  private var byteNumbers: [Int] = []
  private var words: [[Int]] = []
  private var wordCounts: [Int] = []
  private var pairCounts: [Pair: Int] = [:]
  private var queue: [Candidate] = []

  /// - Parameters:
  ///   - alphabet: the signs for the 256 bytes.
  ///   - reserved: tokens that come first and are never learnt.
  init(alphabet: [ByteString], reserved: [ByteString]) {
    tokens = reserved + alphabet
    for (number, token) in tokens.enumerated() { numbers[token] = number }
    byteNumbers = (0..<256).map { byte in
      numbers[ByteString(ByteLevelAlphabet.written([UInt8(byte)]))] ?? 0
    }
  }

  /// Takes words and how often each comes; in the order of their bytes, so that chance has no say.
  mutating func add(words counts: [ByteString: Int]) {
    let sorted = counts.sorted { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }
    words = sorted.map { $0.key.bytes.map { byteNumbers[Int($0)] } }
    wordCounts = sorted.map(\.value)
    var places: [Pair: Set<Int>] = [:]
    for (index, word) in words.enumerated() {
      for (left, right) in zip(word, word.dropFirst()) {
        let pair = Pair(left: left, right: right)
        pairCounts[pair, default: 0] += wordCounts[index]
        places[pair, default: []].insert(index)
      }
    }
    for (pair, words) in places {
      push(Candidate(count: pairCounts[pair] ?? 0, pair: pair, words: words))
    }
  }

  /// Merges until there are so many tokens or no pair is frequent enough.
  mutating func learn(until vocabularySize: Int, minimumFrequency: Int) {
    while tokens.count < vocabularySize, var top = pop() {
      let count = pairCounts[top.pair] ?? 0
      if top.count != count {
        top.count = count
        push(top)
        continue
      }
      if count < max(1, minimumFrequency) { break }
      merge(top)
    }
    // Two ways to one token can bring a pair up twice; the later rank holds.
    var seen: Set<Pair> = []
    merges = merges.reversed().filter { seen.insert($0).inserted }.reversed()
  }

  private mutating func merge(_ candidate: Candidate) {
    let pair = candidate.pair
    let token = ByteString(tokens[pair.left].bytes + tokens[pair.right].bytes)
    let number = numbers[token] ?? tokens.count
    if number == tokens.count {
      tokens.append(token)
      numbers[token] = number
    }
    merges.append(pair)

    var places: [Pair: Set<Int>] = [:]
    for index in candidate.words {
      let count = wordCounts[index]
      let word = words[index]
      var result: [Int] = []
      result.reserveCapacity(word.count)
      var position = 0
      while position < word.count {
        guard word[position] == pair.left, position + 1 < word.count,
          word[position + 1] == pair.right
        else {
          result.append(word[position])
          position += 1
          continue
        }
        if let before = result.last {
          pairCounts[Pair(left: before, right: pair.left), default: 0] -= count
          let new = Pair(left: before, right: number)
          pairCounts[new, default: 0] += count
          places[new, default: []].insert(index)
        }
        if position + 2 < word.count {
          let after = word[position + 2]
          pairCounts[Pair(left: pair.right, right: after), default: 0] -= count
          let new = Pair(left: number, right: after)
          pairCounts[new, default: 0] += count
          places[new, default: []].insert(index)
        }
        result.append(number)
        position += 2
      }
      words[index] = result
    }
    for (pair, words) in places {
      if let count = pairCounts[pair], count > 0 {
        push(Candidate(count: count, pair: pair, words: words))
      }
    }
  }

  // MARK: A binary heap, the greatest first

  private mutating func push(_ candidate: Candidate) {
    queue.append(candidate)
    var child = queue.count - 1
    while child > 0, queue[(child - 1) / 2] < queue[child] {
      queue.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func pop() -> Candidate? {
    guard !queue.isEmpty else { return nil }
    queue.swapAt(0, queue.count - 1)
    let top = queue.removeLast()
    var parent = 0
    while 2 * parent + 1 < queue.count {
      var child = 2 * parent + 1
      if child + 1 < queue.count, queue[child] < queue[child + 1] { child += 1 }
      if !(queue[parent] < queue[child]) { break }
      queue.swapAt(parent, child)
      parent = child
    }
    return top
  }
}
