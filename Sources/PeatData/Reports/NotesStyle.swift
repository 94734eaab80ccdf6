/// Short notes, the outcome before the cause: how the people of the valley write, and a few of the owner's authors.
struct NotesStyle {
  let habits: WriterHabits
  let author: String

  static let phrasingCount = 3

  static let openings = [
    "From my desk.", "Good people,", "Now then.", "Dear all,", "News of the day:",
    "It is me again.",
    "Here we are.",
  ]

  /// The parts that follow the heading.
  static let orders: [[ReportPart]] = [
    [.heading, .outcome, .fault, .remedy, .goods, .weather, .next, .ending],
    [.heading, .goods, .outcome, .fault, .remedy, .weather, .next, .ending],
    [.heading, .weather, .outcome, .fault, .remedy, .next, .goods, .ending],
    [.heading, .outcome, .remedy, .fault, .weather, .goods, .next, .ending],
    [.heading, .next, .outcome, .fault, .remedy, .goods, .weather, .ending],
  ]

  /// What stands between two notes.
  static let joiners = [". ", " - ", "; "]

  func write(_ facts: ReportFacts) -> String {
    let joiner = Self.joiners[habits.phrasing]
    let notes = Self.orders[habits.order].map { note($0, facts) }
    let body = notes.map { joiner == ". " ? $0.capitalisedFirst : $0 }.joined(separator: joiner)
    return "\(Self.openings[habits.opening]) \(body)."
  }

  private func note(_ part: ReportPart, _ facts: ReportFacts) -> String {
    let topic = ReportVocabulary.topics[facts.topic]
    let thing = habits.thing(topic.things[facts.thing].name)
    let symptom = ReportVocabulary.symptoms[facts.symptom]
    let damage = ReportVocabulary.damages[facts.damage]
    let worker = ReportVocabulary.people[facts.worker]
    let helper = ReportVocabulary.people[facts.helper]
    let weather = ReportVocabulary.weathers[facts.weather]
    let goods = habits.word(topic.goods)
    let day = String(ReportVocabulary.days[facts.day].prefix(3))
    let nextDay = String(ReportVocabulary.days[facts.nextDay].prefix(3))
    switch part {
    case .heading:
      let hour = (facts.hour < 10 ? "0" : "") + "\(facts.hour)00"
      let place = habits.word(topic.name)
      return habits.phrasing == 1 ? "\(place), \(day) \(hour)" : "\(day) \(hour), \(place)"
    case .outcome:
      let state = habits.word(facts.isMended ? symptom.right : symptom.wrong)
      let how = facts.isMended ? "\(state) again" : "still \(state)"
      return switch habits.phrasing {
      case 0: "the \(thing) is \(how)"
      case 1: "\(thing) \(how)"
      default: "\(how), that is our \(thing)"
      }
    case .fault:
      let state = habits.word(symptom.wrong)
      let cause = habits.word(damage.damage)
      return switch habits.phrasing {
      case 0: "it was \(state), \(facts.part) \(cause)"
      case 1: "was \(state) since the \(facts.part) was \(cause)"
      default: "\(cause) \(facts.part), that made it \(state)"
      }
    case .remedy:
      let remedy = habits.word(damage.remedy)
      return switch habits.phrasing {
      case 0: "\(remedy) by \(worker.name) with \(helper.name)"
      case 1: "\(worker.name) \(remedy) it and \(helper.name) \(habits.word("helped"))"
      default: "\(worker.name) and \(helper.name) \(remedy) it"
      }
    case .goods:
      let (had, sent, left) = (
        habits.number(facts.had), habits.number(facts.sent), habits.number(facts.left)
      )
      return switch habits.phrasing {
      case 0: "\(goods): \(had) in, \(sent) to the \(topic.destination), \(left) here"
      case 1: "\(goods), \(had) in and \(sent) to the \(topic.destination) and \(left) here"
      default: "\(left) \(goods) here, \(sent) at the \(topic.destination), makes \(had)"
      }
    case .weather:
      let word = habits.word(weather.word)
      let place = habits.word(weather.place)
      return habits.phrasing == 2 ? "\(goods) \(place), \(word)" : "\(word), \(goods) \(place)"
    case .next:
      let other = habits.word(topic.things[facts.nextThing].name)
      let task =
        facts.isMended ? "\(habits.word("check")) the \(other)" : "find a new \(facts.part)"
      return switch habits.phrasing {
      case 0: "\(nextDay): \(worker.name) to \(task)"
      case 1: "\(nextDay) is for \(worker.name) to \(task)"
      default: "to \(task) is for \(worker.name), \(nextDay)"
      }
    case .ending:
      let ending = habits.ending
      let joiner = Self.joiners[habits.phrasing]
      let closing = facts.isMended ? ending.well : ending.open
      return "\(closing.lowercasedUnlessNote(joiner))\(joiner)\(ending.farewell) \(author)"
    }
  }
}

extension String {
  /// Lower case at the beginning, but where notes are sentences of their own.
  fileprivate func lowercasedUnlessNote(_ joiner: String) -> String {
    joiner == ". " ? self : prefix(1).lowercased() + dropFirst()
  }
}
