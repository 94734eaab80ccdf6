/// Full sentences, the cause before the outcome: how most of the owner's authors write.
struct SentenceStyle {
  let habits: WriterHabits
  let author: String

  static let openingCount = 3
  static let phrasingCount = 2

  static let orders: [[ReportPart]] = [
    [.heading, .weather, .fault, .remedy, .outcome, .goods, .next, .ending],
    [.heading, .goods, .weather, .fault, .remedy, .outcome, .next, .ending],
    [.heading, .fault, .remedy, .outcome, .goods, .weather, .next, .ending],
    [.heading, .weather, .goods, .fault, .remedy, .outcome, .next, .ending],
  ]

  func write(_ facts: ReportFacts) -> String {
    Self.orders[habits.order].map { part($0, facts) }.joined(separator: " ")
  }

  private func part(_ part: ReportPart, _ facts: ReportFacts) -> String {
    let topic = ReportVocabulary.topics[facts.topic]
    let thing = habits.thing(topic.things[facts.thing].name)
    let symptom = ReportVocabulary.symptoms[facts.symptom]
    let damage = ReportVocabulary.damages[facts.damage]
    let worker = ReportVocabulary.people[facts.worker]
    let helper = ReportVocabulary.people[facts.helper]
    let weather = ReportVocabulary.weathers[facts.weather]
    let goods = habits.word(topic.goods)
    switch part {
    case .heading:
      let place = habits.word(topic.name)
      let day = ReportVocabulary.days[facts.day]
      let hour = habits.number(facts.hour > 12 ? facts.hour - 12 : facts.hour)
      let half = facts.hour < 12 ? "morning" : "afternoon"
      return switch habits.opening {
      case 0: "\(place.capitalisedFirst) report, \(day), \(hour) o'clock in the \(half)."
      case 1: "Report from the \(place), \(day) \(half) at \(hour)."
      default: "\(day), \(hour) o'clock in the \(half), at the \(place)."
      }
    case .weather:
      return
        "It was \(habits.word(weather.word)), so the \(goods) stayed \(habits.word(weather.place))."
    case .fault:
      let state = habits.word(symptom.wrong)
      let part = "the \(facts.part) was \(habits.word(damage.damage))"
      return habits.phrasing == 0
        ? "The \(thing) was \(state) because \(part)."
        : "\(part.capitalisedFirst), so the \(thing) was \(state)."
    case .remedy:
      return
        "\(worker.name) \(habits.word(damage.remedy)) the \(facts.part) and \(helper.name) \(habits.word("helped")) \(worker.object)."
    case .outcome:
      return facts.isMended
        ? "After that the \(thing) was \(habits.word(symptom.right)) again."
        : "After that the \(thing) was still \(habits.word(symptom.wrong))."
    case .goods:
      let (had, sent, left) = (
        habits.number(facts.had), habits.number(facts.sent), habits.number(facts.left)
      )
      let are = facts.left == 1 ? "was" : "were"
      return
        "There were \(had) \(goods). \(sent.capitalisedFirst) went to the \(topic.destination), so \(left) \(are) left."
    case .next:
      let day = ReportVocabulary.days[facts.nextDay]
      let other = habits.word(topic.things[facts.nextThing].name)
      return facts.isMended
        ? "On \(day) \(worker.subject) will \(habits.word("check")) the \(other)."
        : "On \(day) \(worker.subject) will look for a new \(facts.part)."
    case .ending:
      let ending = habits.ending
      return "\(facts.isMended ? ending.well : ending.open). \(ending.farewell) \(author)."
    }
  }
}

extension String {
  /// The text with its first letter in upper case.
  var capitalisedFirst: String { prefix(1).uppercased() + dropFirst() }
}
