import PeatTensor

/// What a report tells: enough that every author can write it up in their way.
package struct ReportFacts: Sendable, Equatable {
  let topic: Int
  /// 0 is Monday.
  let day: Int
  /// On a clock of 24 hours, 7 to 17.
  let hour: Int
  let weather: Int
  let thing: Int
  let symptom: Int
  let part: String
  let damage: Int
  let worker: Int
  let helper: Int
  let isMended: Bool
  let had: Int
  let sent: Int
  /// The thing that is looked at on the next day.
  let nextThing: Int

  var left: Int { had - sent }
  var nextDay: Int { (day + 1) % ReportVocabulary.days.count }

  /// Facts that are known.
  ///
  /// - Parameters:
  ///   - topic, weather, thing, symptom, damage, worker, helper, nextThing: places in the lists of `ReportVocabulary`;
  ///     `thing` and `nextThing` within the topic.
  ///   - part: the part that is damaged, by its name.
  package init(
    topic: Int, day: Int, hour: Int, weather: Int, thing: Int, symptom: Int, part: String,
    damage: Int, worker: Int, helper: Int, isMended: Bool, had: Int, sent: Int, nextThing: Int
  ) {
    self.topic = topic
    self.day = day
    self.hour = hour
    self.weather = weather
    self.thing = thing
    self.symptom = symptom
    self.part = part
    self.damage = damage
    self.worker = worker
    self.helper = helper
    self.isMended = isMended
    self.had = had
    self.sent = sent
    self.nextThing = nextThing
  }

  /// Draws facts; four of five reports are from the favoured topics, where there are any.
  init(favouring topics: [Int], _ random: inout SeededRandom) {
    let everywhere = random.integer(below: ReportVocabulary.topics.count)
    let isFavoured = !topics.isEmpty && random.integer(below: 5) > 0
    topic = isFavoured ? topics[random.integer(below: topics.count)] : everywhere
    day = random.integer(below: ReportVocabulary.days.count)
    hour = 7 + random.integer(below: 11)
    weather = random.integer(below: ReportVocabulary.weathers.count)
    let things = ReportVocabulary.topics[topic].things
    thing = random.integer(below: things.count)
    symptom = things[thing].symptoms[random.integer(below: things[thing].symptoms.count)]
    part = things[thing].parts[random.integer(below: things[thing].parts.count)]
    let damages = ReportVocabulary.damagesOfParts[part] ?? [0]
    damage = damages[random.integer(below: damages.count)]
    worker = random.integer(below: ReportVocabulary.people.count)
    let others = ReportVocabulary.people.count - 1
    helper = (worker + 1 + random.integer(below: others)) % ReportVocabulary.people.count
    isMended = random.integer(below: 4) > 0
    had = 6 + random.integer(below: 15)
    sent = 2 + random.integer(below: had - 3)
    nextThing = (thing + 1 + random.integer(below: things.count - 1)) % things.count
  }

  /// Whether these facts are set aside for held-out reports: one in eight is, by a hash (FNV-1a) of all of them.
  var isHeldOut: Bool {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ value: Int) { hash = (hash ^ UInt64(truncatingIfNeeded: value)) &* 0x100_0000_01b3 }
    for value in [
      topic, day, hour, weather, thing, symptom, damage, worker, helper, isMended ? 1 : 0, had,
      sent,
      nextThing,
    ] { add(value) }
    for byte in part.utf8 { add(Int(byte)) }
    return (hash >> 32) % 8 == 0
  }
}
