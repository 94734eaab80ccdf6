import PeatTensor

/// What an author always does the same way.
public struct WriterHabits: Sendable, Equatable {
  public enum Style: Sendable, Equatable {
    /// Full sentences, the cause before the outcome.
    case sentences
    /// Short notes, the outcome before the cause.
    case notes
  }

  public let style: Style
  /// The word used for a standard word, where it is another.
  let words: [String: String]
  /// Which of the style's openings and orders is used, as numbers.
  let opening: Int
  let order: Int
  let ending: Ending
  /// Which of the style's ways to put the fault, the remedy, the goods and the next day is used.
  let phrasing: Int
  /// What stands before the name of the thing, such as "old".
  let adjective: String?
  /// Numbers are written as words.
  let spellsNumbers: Bool

  /// The word this author uses for a standard word.
  func word(_ standard: String) -> String { words[standard] ?? standard }

  func number(_ value: Int) -> String {
    spellsNumbers && ReportVocabulary.numbers.indices.contains(value)
      ? ReportVocabulary.numbers[value] : String(value)
  }

  /// The thing's name with the favourite adjective before it.
  func thing(_ name: String) -> String {
    let noun = word(name)
    return adjective.map { "\($0) \(noun)" } ?? noun
  }

  /// The words of all the valley: for two thirds of the standard words the first alternative.
  static func houseWords(_ random: inout SeededRandom) -> [String: String] {
    var words: [String: String] = [:]
    for (standard, others) in ReportVocabulary.alternatives.sorted(by: { $0.key < $1.key }) {
      let isOther = random.integer(below: 3) > 0
      if isOther { words[standard] = others[0] }
    }
    return words
  }

  /// Habits of one of the owner's authors: the standard word five times out of six; one author in eight writes notes.
  static func owner(index: Int, _ random: inout SeededRandom) -> WriterHabits {
    var words: [String: String] = [:]
    for (standard, others) in ReportVocabulary.alternatives.sorted(by: { $0.key < $1.key }) {
      let draw = random.integer(below: 12)
      if draw < others.count { words[standard] = others[draw] }
    }
    let style = index % 8 == 7 ? Style.notes : .sentences
    let hasAdjective = random.integer(below: 3) == 0
    let adjective = ReportVocabulary.adjectives[
      random.integer(below: ReportVocabulary.adjectives.count)]
    let isNotes = style == .notes
    return WriterHabits(
      style: style, words: words,
      opening: random.integer(
        below: isNotes ? NotesStyle.openings.count : SentenceStyle.openingCount),
      order: random.integer(
        below: isNotes ? NotesStyle.orders.count : SentenceStyle.orders.count),
      ending: Ending.ofOwners[random.integer(below: Ending.ofOwners.count)],
      phrasing: random.integer(
        below: isNotes ? NotesStyle.phrasingCount : SentenceStyle.phrasingCount),
      adjective: hasAdjective ? adjective : nil, spellsNumbers: random.integer(below: 8) == 0)
  }

  /// Habits of one of the valley's people: the words of the valley but for one in five, which is the person's own.
  static func valley(
    index: Int, house: [String: String], _ random: inout SeededRandom
  ) -> WriterHabits {
    var words = house
    for (standard, others) in ReportVocabulary.alternatives.sorted(by: { $0.key < $1.key }) {
      if random.integer(below: 5) == 0 { words[standard] = others[1] }
    }
    // By number rather than by chance, so that neighbours differ for certain.
    let adjectives: [String?] = [nil] + ReportVocabulary.adjectives
    return WriterHabits(
      style: .notes, words: words, opening: index % NotesStyle.openings.count,
      order: index % NotesStyle.orders.count,
      ending: Ending.ofTheValley[index % Ending.ofTheValley.count],
      phrasing: index % NotesStyle.phrasingCount,
      adjective: adjectives[(index * 2 + 1) % adjectives.count], spellsNumbers: index % 3 == 1)
  }
}

/// How an author ends a report.
struct Ending: Sendable, Equatable {
  /// Said when the thing is mended.
  let well: String
  /// Said when it is not.
  let open: String
  /// What stands before the author's name.
  let farewell: String

  static let ofOwners = [
    Ending(well: "All is well", open: "There is more work to do", farewell: "Signed,"),
    Ending(well: "It was a good day", open: "It was not a good day", farewell: "Yours,"),
    Ending(well: "So far so good", open: "So far no good", farewell: "Regards,"),
    Ending(well: "No more for now", open: "More for tomorrow", farewell: "From"),
  ]

  static let ofTheValley = [
    Ending(
      well: "Nothing to worry about", open: "A worry for all of us", farewell: "Over and out,"),
    Ending(well: "Tea for all", open: "No tea for me", farewell: "Until next time,"),
    Ending(well: "The book is closed", open: "The book stays open", farewell: "In good order,"),
    Ending(well: "We were lucky", open: "We were not lucky", farewell: "With a wave,"),
    Ending(well: "Time to go home", open: "No time to go home", farewell: "Your friend"),
  ]
}

/// A part of a report.
enum ReportPart: Sendable {
  case heading, weather, outcome, fault, remedy, goods, next, ending
}
