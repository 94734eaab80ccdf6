/// Tokens by their bytes, so that those that a text begins with at some place are found in one walk.
///
/// A node is a number; an edge from node and byte to node lies in a hash table of its own with open addressing. Nodes and edges
/// are as many as the tokens have bytes, at most.
struct TokenTrie: Sendable {
  private static let free = UInt64.max
  private var keys = [UInt64](repeating: free, count: 16)
  private var targets = [Int32](repeating: 0, count: 16)
  private var edgeCount = 0
  private var shift: UInt64 = 60
  /// The token that ends at a node; -1 for none.
  private var tokens: [Int32] = [-1]

  /// Adds a token; of equal ones the last holds.
  mutating func insert(_ token: ArraySlice<UInt8>, number: Int32) {
    var node: Int32 = 0
    for byte in token {
      if let next = child(of: node, byte) {
        node = next
      } else {
        let next = Int32(tokens.count)
        tokens.append(-1)
        addEdge(Self.key(node, byte), next)
        node = next
      }
    }
    tokens[Int(node)] = number
  }

  /// The token that ends at a node.
  func token(_ node: Int32) -> Int32? {
    let number = tokens[Int(node)]
    return number < 0 ? nil : number
  }

  static let root: Int32 = 0

  func child(of node: Int32, _ byte: UInt8) -> Int32? {
    let key = Self.key(node, byte)
    var slot = self.slot(key)
    while keys[slot] != key {
      if keys[slot] == Self.free { return nil }
      slot = (slot + 1) & (keys.count - 1)
    }
    return targets[slot]
  }

  /// The longest token that the text goes on with from `start`, and where it ends.
  func longest(in text: [UInt8], from start: Int) -> (number: Int32, end: Int)? {
    var found: (number: Int32, end: Int)?
    var node = Self.root
    var index = start
    while index < text.count, let next = child(of: node, text[index]) {
      node = next
      index += 1
      if let number = token(node) { found = (number, index) }
    }
    return found
  }

  private static func key(_ node: Int32, _ byte: UInt8) -> UInt64 {
    UInt64(UInt32(bitPattern: node)) << 8 | UInt64(byte)
  }

  private func slot(_ key: UInt64) -> Int {
    let mixed = (key ^ (key >> 29)) &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: mixed >> shift)
  }

  private mutating func addEdge(_ key: UInt64, _ target: Int32) {
    if 2 * (edgeCount + 1) > keys.count { grow() }
    place(key, target)
    edgeCount += 1
  }

  private mutating func place(_ key: UInt64, _ target: Int32) {
    var slot = self.slot(key)
    while keys[slot] != Self.free { slot = (slot + 1) & (keys.count - 1) }
    keys[slot] = key
    targets[slot] = target
  }

  private mutating func grow() {
    let old = zip(keys, targets).filter { $0.0 != Self.free }
    keys = Array(repeating: Self.free, count: 2 * keys.count)
    targets = Array(repeating: 0, count: keys.count)
    shift -= 1
    for (key, target) in old { place(key, target) }
  }
}
