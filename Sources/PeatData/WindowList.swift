/// A dataset's windows, in order: each as it is or, of a stream, by its number alone.
struct WindowList: RandomAccessCollection, Sendable {
  private enum Kind: Sendable {
    case list([TokenDataset.Window])
    case stream(Stream)
  }

  /// Windows one behind the other over so many tokens. A text that is larger than memory has many: 4 bytes each, or none where no window is left out.
  private struct Stream: Sendable {
    let tokenCount: Int
    let context: Int
    /// Tokens that a window needs behind its inputs.
    let beyond: Int
    var count = 0
    /// Which of them; `nil`: the first so many.
    var numbers: [UInt32]?

    mutating func add(_ number: Int) {
      if numbers == nil, number != count { numbers = (0..<count).map { UInt32($0) } }
      numbers?.append(UInt32(number))
      count += 1
    }

    subscript(position: Int) -> TokenDataset.Window {
      let start = (numbers.map { Int($0[position]) } ?? position) * context
      return TokenDataset.Window(
        start: start, count: Swift.min(context, tokenCount - beyond - start))
    }
  }

  private var kind: Kind

  init(_ windows: [TokenDataset.Window]) { kind = .list(windows) }

  /// Those of the windows of a stream that are worth their while.
  init(
    tokenCount: Int, context: Int, beyond: Int, numbers: (_ add: (Int) -> Void) -> Void
  ) {
    var stream = Stream(tokenCount: tokenCount, context: context, beyond: beyond)
    numbers { stream.add($0) }
    kind = .stream(stream)
  }

  var startIndex: Int { 0 }
  var endIndex: Int {
    switch kind {
    case .list(let windows): windows.count
    case .stream(let stream): stream.count
    }
  }

  subscript(position: Int) -> TokenDataset.Window {
    precondition(indices.contains(position), "WindowList: window \(position) of \(count)")
    return switch kind {
    case .list(let windows): windows[position]
    case .stream(let stream): stream[position]
    }
  }
}
