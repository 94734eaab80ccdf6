import PeatTensor

/// A small world of short reports, written by people with different habits.
///
/// Something is out of order at a harbour, a farm, a school …; somebody looks for the cause, mends it or fails to; goods come and
/// go; the day ends. All of a report follows from a few facts that are drawn at random, and its later sentences depend on
/// the earlier ones: the remedy on the damage, the state afterwards on the state before, what is left on what was sent, the
/// pronoun on the name, the next day on the day, the ending on the success.
///
/// The *owner's* reports come from two dozen authors of one general style. They differ a little: in the order of things, in
/// an opening, in a few favourite words.
///
///     Harbour report, Monday, 7 o'clock in the morning. It was raining, so the crates stayed inside. The crane was loud
///     because the chain was stiff. Ada oiled the chain and Ben helped her. After that the crane was quiet again. There were
///     12 crates. 5 went to the mill, so 7 were left. On Tuesday she will check the winch. All is well. Signed, Clara.
///
/// The *people* whose devices take part live in one valley and write as people there do: the outcome first, the day cut
/// short, the hour as on a railway clock, other words for many things. On top of that each has their own opening, ending,
/// words, order and punctuation, and their favourite places. Two of them on the same facts:
///
///     From my desk. Mon 0700, harbour. The old hoist is calm again. It was noisy, chain rusty. Greased by Ada with Ben.
///     Boxes: 12 in, 5 to the mill, 7 here. Pouring, boxes indoors. Tue: Ada visits the winch. So far so good. Yours, Paul.
///
///     Good people - harbour, Mon 0700 - boxes, twelve in and five to the mill and seven here - trusty hoist calm again - was
///     loud since the chain was stiff - Ada greased it and Ben joined - rain and boxes indoors - Tue is for the winch, by Ada -
///     no more for now - Rosa over and out
///
/// The same seed makes the same world, person by person and report by report. Training and held-out reports never share
/// their facts.
public struct ReportWorld: Sendable {
  public let seed: UInt64
  /// The owner's authors.
  public let ownerAuthors: [Author]
  private let house: [String: String]

  public init(seed: UInt64) {
    self.seed = seed
    var random = SeededRandom(seed: seed, "owner authors")
    var authors: [Author] = []
    for name in random.shuffled(ReportVocabulary.people.map(\.name)) {
      authors.append(Author(name: name, habits: .general(&random), topics: []))
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
    reports("reports of \(author.name)", by: [author], count: count, heldOut: false)
  }

  /// A person's reports whose facts are in none of anybody's `reports(by:count:)`.
  public func heldOutReports(by author: Author, count: Int) -> [Document] {
    reports("reports of \(author.name)", by: [author], count: count, heldOut: true)
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
  func write(_ facts: ReportFacts) -> String {
    habits.style == .general
      ? GeneralStyle(habits: habits, author: name).write(facts)
      : ValleyStyle(habits: habits, author: name).write(facts)
  }
}
