import PeatTensor

/// A small world of short reports, written by people with different habits.
///
/// Something is out of order at a harbour, a farm, a school …; somebody looks for the cause, mends it or fails to; goods come and
/// go; the day ends. All of a report follows from a few facts that are drawn at random, and its later sentences depend on
/// the earlier ones: the remedy on the damage, the state afterwards on the state before, what is left on what was sent, the
/// pronoun on the name, the next day on the day, the ending on the success.
///
/// The *owner's* reports come from many authors. Most write in full sentences and differ a little: in the order of things,
/// in an opening, in some favourite words. One in eight writes short notes.
///
///     Monday, 7 o'clock in the morning, at the harbour. There were 12 crates. 5 went to the mill, so 7 were left. It was
///     raining, so the crates stayed inside. The chain was stiff, so the crane was noisy. Ada oiled the chain and Ben helped
///     her. After that the crane was quiet again. On Tuesday she will check the winch. All is well. Signed, Clara.
///
/// The *people* whose devices take part live in one valley and write as people there do: in notes, and with the valley's
/// words for many things, most of which an owner's author uses now and then, but never together. On top of that each has
/// their own opening, ending, words, order and punctuation, and their favourite places. Two of them on the same facts
/// (seed 1, persons 0 and 1):
///
///     From my desk. Mon 0700, harbour. The old hoist is quiet again. It was roaring, chain rusty. Loosened by Ada with Ben.
///     Cases: 12 in, 5 to the mill, 7 here. Pouring, cases inside. Tue: Ada to visit the reel. Nothing to worry about. Over
///     and out, Viktor.
///
///     Good people, dock, Mon 0700 - crates, twelve in and five to the mill and seven here - big hoist quiet again - was
///     noisy since the chain was rusty - Ada loosened it and Ben assisted - pouring, crates inside - Tue is for Ada to visit
///     the reel - tea for all - Until next time, Xaver.
///
/// The same seed makes the same world, person by person and report by report. Training and held-out reports never share
/// their facts.
public struct ReportWorld: Sendable {
  public let seed: UInt64
  /// How many authors the owner has; there are fewer names, so some share one.
  static let ownerAuthorCount = 96

  /// The owner's authors.
  public let ownerAuthors: [Author]
  private let house: [String: String]

  public init(seed: UInt64) {
    self.seed = seed
    var random = SeededRandom(seed: seed, "owner authors")
    var authors: [Author] = []
    let names = ReportVocabulary.people.map(\.name)
    for index in 0..<Self.ownerAuthorCount {
      let habits = WriterHabits.owner(index: index, &random)
      authors.append(Author(name: names[index % names.count], habits: habits, topics: []))
    }
    self.ownerAuthors = authors
    var houseRandom = SeededRandom(seed: seed, "words of the valley")
    self.house = WriterHabits.houseWords(&houseRandom)
  }

  /// One of the people of the valley; there are as many as numbers.
  public func person(_ index: Int) -> Author {
    precondition(index >= 0, "ReportWorld: person \(index)")
    var nameRandom = SeededRandom(seed: seed, "names of the valley")
    let names = nameRandom.shuffled(ReportVocabulary.people.map(\.name))
    let round = index / names.count
    let name = names[index % names.count] + (round == 0 ? "" : " \(round + 1)")
    var random = SeededRandom(seed: seed, "person \(index)")
    let habits = WriterHabits.valley(index: index, house: house, &random)
    // Everybody has three favourite places, neighbours share some.
    let count = ReportVocabulary.topics.count
    let topics = [index % count, (index + 1) % count, random.integer(below: count)]
    return Author(name: name, habits: habits, topics: topics)
  }

  /// One who writes as the owner's authors do, but is none of them; there are as many as numbers.
  public func newcomer(_ index: Int) -> Author {
    precondition(index >= 0, "ReportWorld: newcomer \(index)")
    var random = SeededRandom(seed: seed, "newcomer \(index)")
    let names = ReportVocabulary.people.map(\.name)
    return Author(
      name: names[index % names.count] + (index < names.count ? "" : " \(index / names.count + 1)"),
      habits: WriterHabits.owner(index: index, &random), topics: [])
  }

  /// Reports of the owner's authors, each with the fields `author` and `topic`.
  public func ownerReports(count: Int) -> [Document] {
    reports("owner", by: ownerAuthors, count: count, heldOut: false)
  }

  /// Reports of the owner's authors whose facts are in none of `ownerReports`.
  public func heldOutOwnerReports(count: Int) -> [Document] {
    reports("owner", by: ownerAuthors, count: count, heldOut: true)
  }

  /// A person's reports.
  public func reports(by author: Author, count: Int) -> [Document] {
    reports(stream(of: author), by: [author], count: count, heldOut: false)
  }

  /// A person's reports whose facts are in none of anybody's `reports(by:count:)`.
  public func heldOutReports(by author: Author, count: Int) -> [Document] {
    reports(stream(of: author), by: [author], count: count, heldOut: true)
  }

  /// Newcomers have names of the valley, but no favourite places.
  private func stream(of author: Author) -> String {
    author.topics.isEmpty ? "reports of the newcomer \(author.name)" : "reports of \(author.name)"
  }

  /// The first `count` reports of a stream. A longer list begins with the shorter one.
  private func reports(
    _ stream: String, by authors: [Author], count: Int, heldOut: Bool
  ) -> [Document] {
    var random = SeededRandom(seed: seed, stream + (heldOut ? ", held out" : ""))
    var documents: [Document] = []
    documents.reserveCapacity(count)
    while documents.count < count {
      let author = authors[random.integer(below: authors.count)]
      let facts = ReportFacts(favouring: author.topics, &random)
      if facts.isHeldOut != heldOut { continue }
      documents.append(
        Document(
          author.write(facts),
          fields: ["author": author.name, "topic": ReportVocabulary.topics[facts.topic].name]))
    }
    return documents
  }
}

/// Somebody who writes reports, always with the same habits.
public struct Author: Sendable, Equatable {
  public let name: String
  public let habits: WriterHabits
  /// The topics preferred, as numbers; none for a writer who is everywhere.
  let topics: [Int]

  /// The report that this author writes of the facts.
  package func write(_ facts: ReportFacts) -> String {
    switch habits.style {
    case .sentences: SentenceStyle(habits: habits, author: name).write(facts)
    case .notes: NotesStyle(habits: habits, author: name).write(facts)
    }
  }
}
