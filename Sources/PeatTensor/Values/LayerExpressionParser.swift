/// Reads a `LayerExpression`.
struct LayerExpressionParser {
  typealias Node = LayerExpressionNode
  typealias Problem = LayerExpression.Problem

  private let text: [Unicode.Scalar]
  private var place = 0
  private var depth = 0

  init(_ text: String) { self.text = Array(text.unicodeScalars) }

  private var next: Unicode.Scalar? { place < text.count ? text[place] : nil }

  private mutating func takes(_ words: String) -> Bool {
    let scalars = Array(words.unicodeScalars)
    guard text[place...].starts(with: scalars) else { return false }
    place += scalars.count
    return true
  }

  mutating func whole() throws(Problem) -> Node {
    let node = try alternatives()
    guard next == nil else { throw Problem(reason: "a ')' closes nothing") }
    return node
  }

  private mutating func alternatives() throws(Problem) -> Node {
    var nodes = [try sequence()]
    while takes("|") { nodes.append(try sequence()) }
    return nodes.count == 1 ? nodes[0] : .either(nodes)
  }

  private mutating func sequence() throws(Problem) -> Node {
    var nodes: [Node] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      let (atom, repeats) = try atom()
      nodes.append(try counted(atom, repeats: repeats))
    }
    return .sequence(nodes)
  }

  /// What stands at one place, and whether a count may follow.
  private mutating func atom() throws(Problem) -> (Node, repeats: Bool) {
    guard let scalar = next else { return (.sequence([]), false) }
    if "*+?".unicodeScalars.contains(scalar) {
      throw Problem(reason: "there is nothing before a '\(scalar)'")
    }
    place += 1
    switch scalar {
    case ".": return (.one(.any), true)
    case "^": return (.place(.start), false)
    case "$": return (.place(.end), false)
    case "[": return (.one(try set()), true)
    case "(": return try group()
    case "\\": return try escape()
    default: return (.one(.scalar(scalar)), true)
    }
  }

  private mutating func group() throws(Problem) -> (Node, repeats: Bool) {
    depth += 1
    defer { depth -= 1 }
    guard depth <= 64 else { throw Problem(reason: "it is nested too deeply") }
    var ahead: Bool?
    if takes("?") {
      if takes("=") {
        ahead = true
      } else if takes("!") {
        ahead = false
      } else if takes("P<") {
        while let scalar = next, scalar != ">" {
          guard LayerExpressionSet.holds(.word, scalar) else { break }
          place += 1
        }
        guard takes(">") else { throw Problem(reason: "a group's name does not end") }
      } else if !takes(":") {
        throw Problem(
          reason:
            "a group begins with '(?\(next.map(String.init) ?? "")', which is not matched here (looks behind, flags, conditions, atomic groups, back references)"
        )
      }
    }
    let node = try alternatives()
    guard takes(")") else { throw Problem(reason: "a '(' is not closed") }
    return ahead.map { (.ahead(node, $0), false) } ?? (node, true)
  }

  /// A count behind a node, where there is one.
  private mutating func counted(_ node: Node, repeats: Bool) throws(Problem) -> Node {
    let start = place
    var count: (least: Int, most: Int?)?
    if takes("*") {
      count = (0, nil)
    } else if takes("+") {
      count = (1, nil)
    } else if takes("?") {
      count = (0, 1)
    } else if takes("{") {
      let least = try number()
      let isRange = takes(",")
      let most = isRange ? try number() : least
      guard least != nil || isRange, takes("}") else {
        // As Python has it, this is a brace.
        place = start
        return node
      }
      if let least, let most, most < least {
        throw Problem(reason: "a count ends below its beginning")
      }
      count = (least ?? 0, most)
    }
    guard let count else { return node }
    guard repeats else { throw Problem(reason: "a count stands behind nothing that can repeat") }
    if takes("+") { throw Problem(reason: "possessive counts are not matched here") }
    // A count that takes as little as it can means the same names.
    _ = takes("?")
    if let scalar = next, "*+?".unicodeScalars.contains(scalar) {
      throw Problem(reason: "a count stands behind another")
    }
    return .times(node, count.least, count.most)
  }

  private mutating func number() throws(Problem) -> Int? {
    var value: Int?
    while let scalar = next, ("0"..."9").contains(scalar) {
      place += 1
      value = (value ?? 0) * 10 + Int(scalar.value - 48)
      if let value, value > 1000 { throw Problem(reason: "a count is above 1000") }
    }
    return value
  }

  /// Behind a backslash.
  private mutating func escape() throws(Problem) -> (Node, repeats: Bool) {
    switch next {
    case "b":
      place += 1
      return (.place(.wordEdge), false)
    case "B":
      place += 1
      return (.place(.noWordEdge), false)
    case "A":
      place += 1
      return (.place(.start), false)
    case "Z":
      place += 1
      return (.place(.end), false)
    default: return (.one(LayerExpressionSet(members: [try escapedMember()])), true)
    }
  }

  private mutating func escapedMember() throws(Problem) -> LayerExpressionSet.Member {
    guard let scalar = next else { throw Problem(reason: "it ends in a backslash") }
    place += 1
    func one(_ scalar: Unicode.Scalar) -> LayerExpressionSet.Member { .range(scalar...scalar) }
    switch scalar {
    case "d": return .kind(.digit, true)
    case "D": return .kind(.digit, false)
    case "w": return .kind(.word, true)
    case "W": return .kind(.word, false)
    case "s": return .kind(.space, true)
    case "S": return .kind(.space, false)
    case "n": return one("\n")
    case "r": return one("\r")
    case "t": return one("\t")
    case "0"..."9": throw Problem(reason: "back references are not matched here ('\\\(scalar)')")
    case "a"..."z", "A"..."Z": throw Problem(reason: "there is no escape '\\\(scalar)'")
    default: return one(scalar)
    }
  }

  /// Behind a `[`.
  private mutating func set() throws(Problem) -> LayerExpressionSet {
    var result = LayerExpressionSet(members: [])
    result.isNegated = takes("^")
    var isFirst = true
    while isFirst || next != "]" {
      guard next != nil else { throw Problem(reason: "a '[' is not closed") }
      isFirst = false
      let member = try setMember()
      guard case .range(let first) = member, next == "-", place + 1 < text.count,
        text[place + 1] != "]"
      else {
        result.members.append(member)
        continue
      }
      place += 1
      guard case .range(let last) = try setMember(), first.lowerBound <= last.lowerBound else {
        throw Problem(reason: "a range in '[…]' has no end, or one before its beginning")
      }
      result.members.append(.range(first.lowerBound...last.lowerBound))
    }
    place += 1
    return result
  }

  private mutating func setMember() throws(Problem) -> LayerExpressionSet.Member {
    guard let scalar = next else { throw Problem(reason: "a '[' is not closed") }
    place += 1
    return scalar == "\\" ? try escapedMember() : .range(scalar...scalar)
  }
}
