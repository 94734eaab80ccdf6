/// Reads plays that are laid out in turns: a line `SPEAKER:`, the lines spoken, an empty line.
public enum PlayScriptReader {
  /// The field under which a turn's speaker is found.
  public static let speakerField = "speaker"

  /// Whether the text consists mostly of turns: at least three, and four of five blocks.
  public static func looksLikePlay(_ text: String) -> Bool {
    let blocks = blocks(of: text)
    let turns = blocks.count { turn(from: $0) != nil }
    return turns >= 3 && turns * 5 >= blocks.count * 4
  }

  /// The turns in order. A turn's text is what is spoken, each line with its line end, without the speaker's name.
  ///
  /// Blocks that are no turns (titles, stage directions) are left out.
  public static func turns(of text: String) -> [Document] {
    blocks(of: text).compactMap(turn)
  }

  /// The groups of lines between empty lines.
  private static func blocks(of text: String) -> [[Substring]] {
    var blocks: [[Substring]] = []
    var block: [Substring] = []
    // A CRLF is one Character in Swift, so that `isNewline` cuts at either kind of line end.
    for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      if line.allSatisfy(\.isWhitespace) {
        if !block.isEmpty { blocks.append(block) }
        block = []
      } else {
        block.append(line)
      }
    }
    if !block.isEmpty { blocks.append(block) }
    return blocks
  }

  private static func turn(from block: [Substring]) -> Document? {
    guard block.count >= 2, let heading = block.first, heading.last == ":" else { return nil }
    let speaker = heading.dropLast()
    guard !speaker.isEmpty, speaker.count <= 60, speaker.first?.isLetter == true,
      !speaker.contains(where: { ".?!;:".contains($0) })
    else { return nil }
    let spoken = block.dropFirst().map { $0 + "\n" }.joined()
    return Document(spoken, fields: [speakerField: String(speaker)])
  }
}
