import ArgumentParser

/// For how long something holds, as a person writes it: 30m, 12h, 1d, 2w.
struct Lifetime: ExpressibleByArgument, CustomStringConvertible {
  let seconds: Int
  let description: String

  init?(argument: String) {
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
    guard let unit = argument.last.flatMap({ units[$0] }), let count = Int(argument.dropLast()),
      count > 0, count <= 3650 * 86_400 / unit
    else { return nil }
    seconds = count * unit
    description = argument
  }

  static let day = Lifetime(seconds: 86_400, description: "1d")

  private init(seconds: Int, description: String) {
    self.seconds = seconds
    self.description = description
  }

  var duration: Duration { .seconds(seconds) }
}
