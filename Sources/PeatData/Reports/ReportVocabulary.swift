/// The things, people and words of the report world.
enum ReportVocabulary {
  struct Thing: Sendable {
    let name: String
    let parts: [String]
    /// Numbers of `symptoms`.
    let symptoms: [Int]
  }

  struct Topic: Sendable {
    let name: String
    let goods: String
    let destination: String
    let things: [Thing]
  }

  struct Person: Sendable {
    let name: String
    let isWoman: Bool
    var subject: String { isWoman ? "she" : "he" }
    var object: String { isWoman ? "her" : "him" }
  }

  static let days = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
  ]

  static let numbers = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
  ]

  static let people: [Person] = [
    Person(name: "Ada", isWoman: true), Person(name: "Ben", isWoman: false),
    Person(name: "Clara", isWoman: true), Person(name: "David", isWoman: false),
    Person(name: "Edith", isWoman: true), Person(name: "Felix", isWoman: false),
    Person(name: "Greta", isWoman: true), Person(name: "Hugo", isWoman: false),
    Person(name: "Iris", isWoman: true), Person(name: "Jonas", isWoman: false),
    Person(name: "Karin", isWoman: true), Person(name: "Leo", isWoman: false),
    Person(name: "Mara", isWoman: true), Person(name: "Nils", isWoman: false),
    Person(name: "Olga", isWoman: true), Person(name: "Paul", isWoman: false),
    Person(name: "Rosa", isWoman: true), Person(name: "Samuel", isWoman: false),
    Person(name: "Tilda", isWoman: true), Person(name: "Viktor", isWoman: false),
    Person(name: "Wanda", isWoman: true), Person(name: "Xaver", isWoman: false),
    Person(name: "Yvonne", isWoman: true), Person(name: "Zeno", isWoman: false),
  ]

  /// What the weather was, as the standard word, and what it meant for the goods.
  static let weathers = [
    (word: "raining", place: "inside"), (word: "sunny", place: "outside"),
    (word: "windy", place: "downstairs"), (word: "foggy", place: "upstairs"),
    (word: "snowing", place: "covered"),
  ]

  /// How a thing is while something is wrong, and how once it is mended.
  static let symptoms = [
    (wrong: "loud", right: "quiet"), (wrong: "slow", right: "quick"),
    (wrong: "hot", right: "cool"), (wrong: "dark", right: "bright"),
    (wrong: "wet", right: "dry"), (wrong: "cold", right: "warm"),
    (wrong: "shaky", right: "steady"), (wrong: "stuck", right: "free"),
  ]

  /// How a part can be damaged, and what is done about it.
  static let damages = [
    (damage: "loose", remedy: "tightened"), (damage: "stiff", remedy: "oiled"),
    (damage: "broken", remedy: "replaced"), (damage: "dirty", remedy: "cleaned"),
    (damage: "blocked", remedy: "cleared"), (damage: "worn", remedy: "patched"),
    (damage: "bent", remedy: "straightened"), (damage: "empty", remedy: "filled"),
  ]

  /// Which damages a part can have, as numbers of `damages`.
  static let damagesOfParts: [String: [Int]] = [
    "chain": [0, 1, 2], "belt": [0, 5, 2], "hinge": [1, 6, 0], "pipe": [4, 6, 2],
    "filter": [3, 4, 5], "wheel": [6, 1, 0], "spring": [2, 5, 1], "handle": [0, 6, 2],
    "cable": [5, 2, 0], "valve": [1, 4, 3], "bolt": [0, 6, 5], "screw": [0, 5, 6],
    "tank": [7, 3, 4], "hose": [4, 5, 7], "fan": [3, 6, 4], "lamp": [3, 2, 0],
    "gear": [5, 1, 3], "rope": [5, 0, 2], "roller": [1, 3, 5], "switch": [2, 1, 3],
    "lid": [6, 0, 3], "pin": [6, 2, 5], "plate": [6, 3, 2], "brush": [5, 3, 6],
  ]

  static let topics: [Topic] = [
    Topic(
      name: "harbour", goods: "crates", destination: "mill",
      things: [
        Thing(name: "crane", parts: ["chain", "gear", "cable"], symptoms: [0, 1, 6]),
        Thing(name: "ferry", parts: ["rope", "plate", "valve"], symptoms: [1, 4, 6]),
        Thing(name: "winch", parts: ["rope", "handle", "bolt"], symptoms: [0, 7, 1]),
        Thing(name: "buoy", parts: ["chain", "lamp", "lid"], symptoms: [3, 6, 4]),
        Thing(name: "beacon", parts: ["lamp", "switch", "cable"], symptoms: [3, 2, 1]),
      ]),
    Topic(
      name: "garden", goods: "baskets", destination: "market",
      things: [
        Thing(name: "pump", parts: ["hose", "filter", "valve"], symptoms: [0, 1, 2]),
        Thing(name: "mower", parts: ["belt", "wheel", "tank"], symptoms: [0, 7, 2]),
        Thing(name: "fountain", parts: ["pipe", "filter", "lamp"], symptoms: [3, 1, 5]),
        Thing(name: "greenhouse", parts: ["hinge", "fan", "pipe"], symptoms: [2, 4, 5]),
        Thing(name: "barrow", parts: ["wheel", "handle", "screw"], symptoms: [6, 0, 7]),
      ]),
    Topic(
      name: "kitchen", goods: "loaves", destination: "inn",
      things: [
        Thing(name: "oven", parts: ["hinge", "fan", "switch"], symptoms: [5, 1, 0]),
        Thing(name: "mixer", parts: ["gear", "belt", "pin"], symptoms: [0, 6, 7]),
        Thing(name: "kettle", parts: ["lid", "handle", "plate"], symptoms: [5, 1, 0]),
        Thing(name: "fridge", parts: ["fan", "lamp", "lid"], symptoms: [2, 4, 3]),
        Thing(name: "tap", parts: ["valve", "pipe", "screw"], symptoms: [7, 1, 0]),
      ]),
    Topic(
      name: "workshop", goods: "chairs", destination: "school",
      things: [
        Thing(name: "lathe", parts: ["gear", "belt", "bolt"], symptoms: [0, 6, 2]),
        Thing(name: "saw", parts: ["chain", "pin", "handle"], symptoms: [2, 6, 7]),
        Thing(name: "drill", parts: ["cable", "spring", "switch"], symptoms: [1, 2, 0]),
        Thing(name: "press", parts: ["plate", "spring", "screw"], symptoms: [7, 1, 6]),
        Thing(name: "furnace", parts: ["fan", "brush", "pipe"], symptoms: [5, 3, 0]),
      ]),
    Topic(
      name: "clinic", goods: "bandages", destination: "village",
      things: [
        Thing(name: "bed", parts: ["spring", "wheel", "bolt"], symptoms: [6, 0, 5]),
        Thing(name: "scale", parts: ["plate", "spring", "pin"], symptoms: [6, 7, 1]),
        Thing(name: "heater", parts: ["switch", "filter", "tank"], symptoms: [5, 0, 2]),
        Thing(name: "curtain", parts: ["rope", "roller", "pin"], symptoms: [7, 3, 4]),
        Thing(name: "bell", parts: ["spring", "cable", "screw"], symptoms: [0, 1, 7]),
      ]),
    Topic(
      name: "school", goods: "books", destination: "library",
      things: [
        Thing(name: "piano", parts: ["lid", "pin", "spring"], symptoms: [0, 7, 6]),
        Thing(name: "projector", parts: ["lamp", "fan", "cable"], symptoms: [3, 2, 0]),
        Thing(name: "clock", parts: ["gear", "spring", "plate"], symptoms: [1, 0, 7]),
        Thing(name: "bus", parts: ["wheel", "tank", "belt"], symptoms: [1, 0, 5]),
        Thing(name: "printer", parts: ["roller", "brush", "lid"], symptoms: [1, 7, 2]),
      ]),
    Topic(
      name: "farm", goods: "sacks", destination: "bakery",
      things: [
        Thing(name: "tractor", parts: ["tank", "belt", "filter"], symptoms: [0, 1, 2]),
        Thing(name: "gate", parts: ["hinge", "bolt", "handle"], symptoms: [7, 0, 6]),
        Thing(name: "trough", parts: ["pipe", "plate", "hose"], symptoms: [5, 4, 6]),
        Thing(name: "barn", parts: ["hinge", "lamp", "fan"], symptoms: [3, 4, 5]),
        Thing(name: "thresher", parts: ["roller", "chain", "brush"], symptoms: [0, 7, 2]),
      ]),
    Topic(
      name: "station", goods: "parcels", destination: "town",
      things: [
        Thing(name: "engine", parts: ["valve", "gear", "tank"], symptoms: [0, 1, 2]),
        Thing(name: "signal", parts: ["lamp", "switch", "rope"], symptoms: [3, 7, 1]),
        Thing(name: "door", parts: ["hinge", "roller", "spring"], symptoms: [7, 0, 1]),
        Thing(name: "carriage", parts: ["wheel", "bolt", "brush"], symptoms: [6, 0, 5]),
        Thing(name: "track", parts: ["plate", "screw", "pin"], symptoms: [6, 0, 4]),
      ]),
  ]

  /// Each standard word with the two that some people use instead.
  static let alternatives: [String: [String]] = [
    // How things are.
    "loud": ["noisy", "roaring"], "quiet": ["calm", "silent"], "slow": ["lazy", "late"],
    "quick": ["brisk", "fast"], "hot": ["burning", "glowing"], "cool": ["fresh", "chilly"],
    "dark": ["dim", "black"], "bright": ["clear", "shining"], "wet": ["damp", "dripping"],
    "dry": ["airy", "drained"], "cold": ["icy", "frozen"], "warm": ["cosy", "mild"],
    "shaky": ["wobbly", "trembling"], "steady": ["firm", "solid"], "stuck": ["jammed", "trapped"],
    "free": ["open", "moving"],
    // Damages and remedies.
    "loose": ["slack", "limp"], "tightened": ["pulled", "secured"], "stiff": ["rusty", "hard"],
    "oiled": ["greased", "loosened"], "broken": ["cracked", "snapped"],
    "replaced": ["renewed", "changed"], "dirty": ["muddy", "dusty"],
    "cleaned": ["washed", "scrubbed"], "blocked": ["choked", "clogged"],
    "cleared": ["emptied", "opened"], "worn": ["thin", "tired"], "patched": ["mended", "sewn"],
    "bent": ["crooked", "twisted"], "straightened": ["flattened", "squared"],
    "empty": ["bare", "hollow"], "filled": ["topped", "loaded"],
    // The day.
    "raining": ["pouring", "drizzling"], "sunny": ["fine", "golden"], "windy": ["stormy", "gusty"],
    "foggy": ["misty", "hazy"], "snowing": ["freezing", "white"], "inside": ["indoors", "within"],
    "outside": ["outdoors", "about"], "downstairs": ["below", "underneath"],
    "upstairs": ["above", "overhead"], "covered": ["wrapped", "hidden"],
    "helped": ["assisted", "joined"], "check": ["visit", "inspect"],
    // Places and goods.
    "harbour": ["port", "dock"], "garden": ["orchard", "park"], "kitchen": ["canteen", "galley"],
    "workshop": ["smithy", "factory"], "clinic": ["hospital", "ward"],
    "school": ["college", "academy"], "farm": ["ranch", "estate"], "station": ["depot", "railway"],
    "crates": ["boxes", "cases"], "baskets": ["hampers", "pails"], "loaves": ["buns", "rolls"],
    "chairs": ["stools", "seats"], "bandages": ["dressings", "wraps"],
    "books": ["readers", "volumes"], "sacks": ["bags", "bundles"],
    "parcels": ["packets", "packages"],
    // Things.
    "crane": ["hoist", "lift"], "ferry": ["barge", "raft"], "winch": ["reel", "drum"],
    "buoy": ["float", "marker"], "beacon": ["lantern", "light"], "pump": ["siphon", "feeder"],
    "mower": ["cutter", "clipper"], "fountain": ["cascade", "sprinkler"],
    "greenhouse": ["glasshouse", "hothouse"], "barrow": ["cart", "trolley"],
    "oven": ["stove", "hearth"], "mixer": ["whisk", "beater"], "kettle": ["pot", "boiler"],
    "fridge": ["cooler", "larder"], "tap": ["faucet", "spout"], "lathe": ["turner", "spinner"],
    "saw": ["blade", "slicer"], "drill": ["borer", "auger"], "press": ["stamp", "clamp"],
    "furnace": ["forge", "burner"], "bed": ["cot", "couch"], "scale": ["balance", "meter"],
    "heater": ["radiator", "warmer"], "curtain": ["screen", "drape"], "bell": ["buzzer", "chime"],
    "piano": ["keyboard", "organ"], "projector": ["viewer", "beamer"], "clock": ["timer", "dial"],
    "bus": ["coach", "van"], "printer": ["copier", "machine"], "tractor": ["digger", "hauler"],
    "gate": ["barrier", "hatch"], "trough": ["basin", "tub"], "barn": ["shed", "stable"],
    "thresher": ["harvester", "reaper"], "engine": ["motor", "locomotive"],
    "signal": ["flag", "semaphore"], "door": ["entrance", "doorway"],
    "carriage": ["wagon", "car"], "track": ["rail", "line"],
  ]

  /// Favourite words that some authors put before a thing.
  static let adjectives = ["old", "trusty", "big", "poor", "little", "good"]
}
