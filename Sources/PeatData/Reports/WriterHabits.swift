import PeatTensor

/// What an author always does the same way.
public struct WriterHabits: Sendable, Equatable {
  /// The school of writing that an author belongs to.
  public enum Style: Sendable, Equatable {
    /// Full sentences, the cause before the outcome.
    case general
    /// Notes, the outcome before the cause.
    case valley
  }

  public let style: Style
  /// The word used for a standard word, where it is another.
  let words: [String: String]
  /// Which of the style's openings, orders and endings is used, as numbers.
  let opening: Int
  let order: Int
  let ending: Int
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

  /// Habits of one of the owner's authors: the standard word but for one in twelve.
  static func general(_ random: inout SeededRandom) -> WriterHabits {
    var words: [String: String] = [:]
    for (standard, others) in ReportVocabulary.alternatives.sorted(by: { $0.key < $1.key }) {
      let draw = random.integer(below: 24)
      if draw < others.count { words[standard] = others[draw] }
    }
    let hasAdjective = random.integer(below: 3) == 0
    let adjective = ReportVocabulary.adjectives[
      random.integer(below: ReportVocabulary.adjectives.count)]
    return WriterHabits(
      style: .general, words: words, opening: random.integer(below: GeneralStyle.openingCount),
      order: random.integer(below: GeneralStyle.orders.count),
      ending: random.integer(below: GeneralStyle.endings.count),
      phrasing: random.integer(below: GeneralStyle.phrasingCount),
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
      style: .valley, words: words, opening: index % ValleyStyle.openings.count,
      order: index % ValleyStyle.orders.count, ending: index % ValleyStyle.endings.count,
      phrasing: index % ValleyStyle.phrasingCount,
      adjective: adjectives[(index * 2 + 1) % adjectives.count], spellsNumbers: index % 3 == 1)
  }
}

/// A part of a report.
enum ReportPart: Sendable {
  case heading, weather, outcome, fault, remedy, goods, next, ending
}
