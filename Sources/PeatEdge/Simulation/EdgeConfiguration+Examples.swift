extension EdgeConfiguration {
  /// Phones and laptops with eight levels of a 320 MB emulator, each with so many devices.
  private static func example(devices: Int) -> EdgeConfiguration {
    let kept = [8, 7, 6, 5, 4, 3, 2, 1]
    let fidelity = [1, 0.985, 0.955, 0.905, 0.83, 0.70, 0.50, 0.22]
    let levels = zip(kept, fidelity).map { kept, fidelity in
      let share = Double(kept) / 8
      // Uniformly dropped blocks.
      let blocks =
        kept == 1 ? [3] : (0..<kept).map { Int((Double($0 * 7) / Double(kept - 1)).rounded()) }
      return EmulatorLevel(
        "\(kept) of 8", bytes: 320e6 * share, work: 12e12 + 60e12 * share,
        memory: 0.15e9 + 0.9e9 * share, fidelity: fidelity, blocks: blocks)
    }
    var phone = DeviceClass(
      "phone", share: 3, compute: Spread(2e11, 1e12), memory: Spread(0.35e9, 1.5e9))
    phone.battery = 40_000
    var laptop = DeviceClass(
      "laptop", share: 1, compute: Spread(8e11, 2e12), memory: Spread(0.8e9, 2.2e9))
    laptop.energyPerOperation = 3e-11
    var result = EdgeConfiguration(classes: [phone, laptop], levels: levels, middleBlocks: 8)
    result.devices = devices
    return result
  }

  /// People who walk about in a macro cell.
  public static var pedestrian: EdgeConfiguration { example(devices: 10) }

  /// Cars in a macro cell: channels change from round to round.
  public static var vehicular: EdgeConfiguration {
    var result = example(devices: 10)
    result.mobility = .vehicular
    return result
  }

  /// Forty devices in a street canyon.
  public static var dense: EdgeConfiguration {
    var result = example(devices: 40)
    result.radio.scenario = .urbanMicro
    result.radio.radius = 150
    result.radio.basePower = 33
    return result
  }

  /// The same, but planners believe what is not quite so: fidelities differ by up to 30 %, reports of channels are two rounds
  /// late, and one device in five fails.
  public var uncertain: EdgeConfiguration {
    var result = self
    result.uncertainty.fidelity = 0.3
    result.uncertainty.delay = 2
    for index in result.classes.indices { result.classes[index].dropout = 0.2 }
    return result
  }

  /// The scenarios by name.
  public static let examples: [String: EdgeConfiguration] = {
    let plain = ["pedestrian": pedestrian, "vehicular": vehicular, "dense": dense]
    return plain.reduce(into: plain) { $0[$1.key + "-uncertain"] = $1.value.uncertain }
  }()
}
