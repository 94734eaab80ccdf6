/// A regular expression of an adapter's file, as Python's `re` reads it, without what needs to try again and again.
///
/// It comes from whoever made the file, so it must not take long: each place of the expression is looked at once for each place of the name, whatever
/// the two are. Back references, looks behind, possessive and atomic parts and flags can't be matched that way, or are nobody's here; they are refused.
///
/// Source: Thompson 1968, <https://doi.org/10.1145/363347.363387>, as a search with a memory of where it was.
package struct LayerExpression: Sendable {
  /// Why a text is none.
  package struct Problem: Error, Sendable {
    /// Goes on behind the expression: "can't be read: …".
    package let reason: String
  }

  /// Longer ones are nobody's.
  static let longest = 512

  private let program: LayerExpressionProgram

  package init(_ text: String) throws(Problem) {
    guard text.utf8.count <= Self.longest else {
      throw Problem(reason: "it is longer than \(Self.longest) bytes")
    }
    var parser = LayerExpressionParser(text)
    program = try LayerExpressionProgram(parser.whole())
  }

  /// Whether the expression means the whole of a name, as Python's `re.fullmatch`.
  package func matches(_ name: String) -> Bool {
    program.starts(in: Array(name.unicodeScalars), toEnd: true)[0]
  }
}

/// What an expression consists of.
indirect enum LayerExpressionNode: Sendable {
  case one(LayerExpressionSet)
  case sequence([LayerExpressionNode])
  case either([LayerExpressionNode])
  /// From so many times to so many; `nil`: any.
  case times(LayerExpressionNode, Int, Int?)
  case place(LayerExpressionPlace)
  /// Whether something follows, or does not; it is not taken.
  case ahead(LayerExpressionNode, Bool)
}

enum LayerExpressionPlace: Sendable {
  case start, end, wordEdge, noWordEdge
}

/// Which characters stand at one place.
struct LayerExpressionSet: Sendable {
  enum Kind: Sendable { case digit, word, space }
  enum Member: Sendable {
    case range(ClosedRange<Unicode.Scalar>)
    case kind(Kind, Bool)
  }

  var members: [Member]
  var isNegated = false

  static func scalar(_ scalar: Unicode.Scalar) -> LayerExpressionSet {
    LayerExpressionSet(members: [.range(scalar...scalar)])
  }

  /// All but the end of a line.
  static let any = LayerExpressionSet(members: [.range("\n"..."\n")], isNegated: true)

  func contains(_ scalar: Unicode.Scalar) -> Bool {
    members.contains { member in
      switch member {
      case .range(let range): range.contains(scalar)
      case .kind(let kind, let holds): Self.holds(kind, scalar) == holds
      }
    } != isNegated
  }

  static func holds(_ kind: Kind, _ scalar: Unicode.Scalar) -> Bool {
    switch kind {
    case .digit: scalar.properties.numericType == .decimal
    case .word:
      scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
    case .space: scalar.properties.isWhitespace
    }
  }
}

/// The expression as steps.
struct LayerExpressionProgram: Sendable {
  private enum Step: Sendable {
    case one(LayerExpressionSet)
    case fork(Int, Int)
    case jump(Int)
    case place(LayerExpressionPlace)
    case ahead(Int, Bool)
    case done
  }

  /// Counts such as `{3}` write what they count as often, so that small texts can grow.
  private static let mostSteps = 4096

  private var steps: [Step] = []
  private var sources: [[Int]] = []
  private var looks: [LayerExpressionProgram] = []
  private var work = 0

  init(_ node: LayerExpressionNode) throws(LayerExpression.Problem) {
    try add(node)
    steps.append(.done)
    sources = Self.sources(of: steps)
  }

  private mutating func add(_ node: LayerExpressionNode) throws(LayerExpression.Problem) {
    work += 1
    guard work <= Self.mostSteps, steps.count <= Self.mostSteps else {
      throw LayerExpression.Problem(reason: "its counts make it too large")
    }
    switch node {
    case .one(let set): steps.append(.one(set))
    case .sequence(let nodes): for node in nodes { try add(node) }
    case .either(let nodes):
      var ends: [Int] = []
      for (number, node) in nodes.enumerated() {
        guard number < nodes.count - 1 else {
          try add(node)
          break
        }
        let fork = steps.count
        steps.append(.done)
        try add(node)
        ends.append(steps.count)
        steps.append(.done)
        steps[fork] = .fork(fork + 1, steps.count)
      }
      for end in ends { steps[end] = .jump(steps.count) }
    case .times(let node, let least, let most):
      for _ in 0..<least { try add(node) }
      guard let most else {
        let fork = steps.count
        steps.append(.done)
        try add(node)
        steps.append(.jump(fork))
        steps[fork] = .fork(fork + 1, steps.count)
        return
      }
      var forks: [Int] = []
      for _ in least..<max(least, most) {
        forks.append(steps.count)
        steps.append(.done)
        try add(node)
      }
      for fork in forks { steps[fork] = .fork(fork + 1, steps.count) }
    case .place(let place): steps.append(.place(place))
    case .ahead(let node, let holds):
      let look = try LayerExpressionProgram(node)
      work += look.work
      steps.append(.ahead(looks.count, holds))
      looks.append(look)
    }
  }

  /// The steps that lead to each.
  private static func sources(of steps: [Step]) -> [[Int]] {
    var sources = [[Int]](repeating: [], count: steps.count)
    for (number, step) in steps.enumerated() {
      switch step {
      case .one, .place, .ahead: sources[number + 1].append(number)
      case .fork(let first, let second):
        sources[first].append(number)
        if second != first { sources[second].append(number) }
      case .jump(let next): sources[next].append(number)
      case .done: break
      }
    }
    return sources
  }

  /// From which places of a text it leads to its end, or anywhere. It is followed backwards, so that one search answers for all places.
  func starts(in text: [Unicode.Scalar], toEnd: Bool) -> [Bool] {
    let looked = looks.map { $0.starts(in: text, toEnd: false) }
    let width = text.count + 1
    var leads = [Bool](repeating: false, count: steps.count * width)
    var open: [(step: Int, place: Int)] = []
    func add(_ step: Int, _ place: Int) {
      guard !leads[step * width + place] else { return }
      leads[step * width + place] = true
      open.append((step, place))
    }
    for place in (toEnd ? text.count : 0)...text.count { add(steps.count - 1, place) }
    while let (step, place) = open.popLast() {
      for source in sources[step] {
        switch steps[source] {
        case .one(let set):
          if place > 0, set.contains(text[place - 1]) { add(source, place - 1) }
        case .fork, .jump: add(source, place)
        case .place(let kind): if Self.holds(kind, text, place) { add(source, place) }
        case .ahead(let look, let holds): if looked[look][place] == holds { add(source, place) }
        case .done: break
        }
      }
    }
    return Array(leads[..<width])
  }

  private static func holds(
    _ kind: LayerExpressionPlace, _ text: [Unicode.Scalar], _ place: Int
  ) -> Bool {
    func isWord(_ place: Int) -> Bool {
      text.indices.contains(place) && LayerExpressionSet.holds(.word, text[place])
    }
    return switch kind {
    case .start: place == 0
    case .end: place == text.count
    case .wordEdge: isWord(place - 1) != isWord(place)
    case .noWordEdge: isWord(place - 1) == isWord(place)
    }
  }
}
