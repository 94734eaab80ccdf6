import Foundation
import PeatEdge
import PeatTensor
import TestSupport
import Testing

@Suite("Radio") struct RadioTests {
  @Test func `path losses are those of ns-3's test vectors`() {
    let golden: [(PathLoss.Scenario, Bool, [Double])] = [
      (.urbanMacro, true, [72.9380, 86.2362, 109.7252, 137.6794]),
      (.urbanMacro, false, [82.5131, 106.1356, 144.7641, 172.0753]),
      (.urbanMicro, true, [69.8591, 88.4122, 119.3114, 147.2696]),
      (.urbanMicro, false, [76.7563, 107.9432, 143.1886, 167.8617]),
    ]
    for (scenario, hasLineOfSight, losses) in golden {
      let loss = PathLoss(scenario, carrier: 5)
      for (distance, wanted) in zip([10.0, 100, 1000, 5000], losses) {
        #expect(abs(loss.loss(distance, hasLineOfSight: hasLineOfSight) - wanted) < 0.001)
      }
    }
  }

  @Test func `line of sight is sure near by and rare far away`() {
    let macro = PathLoss(.urbanMacro, carrier: 3.5)
    let micro = PathLoss(.urbanMicro, carrier: 3.5)
    #expect(macro.lineOfSightProbability(18) == 1)
    #expect(abs(macro.lineOfSightProbability(100) - (0.18 + exp(-100 / 63.0) * 0.82)) < 1e-12)
    #expect(abs(micro.lineOfSightProbability(100) - (0.18 + exp(-100 / 36.0) * 0.82)) < 1e-12)
    var last = 1.0
    for distance in stride(from: 20.0, to: 500, by: 10) {
      let probability = macro.lineOfSightProbability(distance)
      #expect(probability < last && micro.lineOfSightProbability(distance) < probability)
      last = probability
    }
  }

  @Test func `ergodic capacity of Rayleigh fading`() {
    let golden: [(Double, Double)] = [
      (0, 0.86035), (5, 1.71597), (10, 2.90651), (15, 4.33020), (20, 5.88405), (30, 9.14362),
      (-10, 0.13210),
    ]
    for (decibels, wanted) in golden {
      let found = ErgodicCapacity.rayleigh(snr: pow(10, decibels / 10))
      #expect(abs(found - wanted) < 1e-4, "\(decibels) dB: \(found)")
    }
    #expect(ErgodicCapacity.rayleigh(snr: 0) == 0)
    // Very weak: log₂(1 + x) ≈ x / ln 2.
    #expect(abs(ErgodicCapacity.rayleigh(snr: 1e-9) / (1e-9 / log(2)) - 1) < 1e-6)
  }

  @Test(arguments: [0.0, 0.5, 3, 7.94, 30], [-20.0, -5, 0, 10, 25])
  func `ergodic capacity of Rician fading agrees with its integral`(k: Double, decibels: Double) {
    let snr = pow(10, decibels / 10)
    // E log₂(1 + g|h|²), h = √(K/(K+1)) + CN(0, 1/(K+1)), by quadrature over both parts of h.
    let deviation = (0.5 / (k + 1)).squareRoot()
    let direct = (k / (k + 1)).squareRoot()
    var (sum, weight) = (0.0, 0.0)
    let steps = 400
    for i in 0..<steps {
      let x = 8 * (2 * (Double(i) + 0.5) / Double(steps) - 1)
      for j in 0..<steps {
        let y = 8 * (2 * (Double(j) + 0.5) / Double(steps) - 1)
        let density = exp(-(x * x + y * y) / 2)
        let real = direct + deviation * x
        sum += density * log2(1 + snr * (real * real + deviation * deviation * y * y))
        weight += density
      }
    }
    let found = ErgodicCapacity.rician(snr: snr, k: k)
    #expect(abs(found - sum / weight) < 1e-4 * max(sum / weight, 0.01), "\(found), \(sum / weight)")
    if k == 0 { #expect(abs(found - ErgodicCapacity.rayleigh(snr: snr)) < 1e-9) }
  }

  @Test func `a band is shared so that the last ends first`() {
    let strength = [1e7, 1e8, pow(10, 6.5)]
    let transfers = [10.0, 60, 5].map { BandwidthAllocation.Transfer(beside: $0, bits: 96e6) }
    func rate(_ number: Int, _ band: Double) -> Double {
      band > 0 ? band * log2(1 + strength[number] / band) : 0
    }
    let solution = BandwidthAllocation.shortest(transfers, band: 20e6, rate: rate)
    #expect(abs(solution.seconds - 61.912255) < 1e-5)
    for (found, wanted) in zip(solution.bands, [0.390717e6, 18.938447e6, 0.670836e6]) {
      #expect(abs(found - wanted) < 1e-5 * 20e6)
    }
    let equal = (0..<3).map { transfers[$0].beside + 96e6 / rate($0, 20e6 / 3) }.max() ?? 0
    #expect(abs(equal - 63.6) < 1e-3)
    // Nobody with something to send; somebody who can't be reached.
    #expect(
      BandwidthAllocation.shortest([.init(beside: 3, bits: 0)], band: 1e6) { _, _ in 0 }
        == .init(seconds: 3, bands: [0]))
    #expect(
      BandwidthAllocation.shortest([.init(bits: 1)], band: 1e6) { _, _ in 0 }.seconds == .infinity)
  }

  @Test func `no other share of the band ends earlier`() {
    var random = SeededRandom(seed: 3)
    for _ in 0..<50 {
      let count = 2 + random.integer(below: 5)
      let strength = (0..<count).map { _ in pow(10, Double(random.uniform(5, 9))) }
      let transfers = (0..<count).map { _ in
        BandwidthAllocation.Transfer(
          beside: Double(random.uniform(0, 40)), bits: Double(random.uniform(1e6, 3e8)))
      }
      func rate(_ number: Int, _ band: Double) -> Double {
        band > 0 ? min(band * log2(1 + strength[number] / band), 6 * band) : 0
      }
      let best = BandwidthAllocation.shortest(transfers, band: 20e6, rate: rate)
      func end(_ bands: [Double]) -> Double {
        bands.indices.map { transfers[$0].beside + transfers[$0].bits / rate($0, bands[$0]) }.max()
          ?? 0
      }
      #expect(abs(end(best.bands) - best.seconds) < 1e-6 * best.seconds)
      #expect(best.bands.reduce(0, +) <= 20e6 * (1 + 1e-9))
      for _ in 0..<30 {
        var other = best.bands.map { $0 * exp(0.2 * Double(random.normal())) }
        let total = other.reduce(0, +)
        other = other.map { $0 * 20e6 / total }
        #expect(end(other) >= best.seconds * (1 - 1e-7))
      }
    }
  }

  @Test func `a table of efficiencies ends at both ends`() {
    let table = CapacityTable { $0 < 1 ? $0 : 1 + $0 / 1e9 }
    #expect(table.efficiency(snr: .infinity) == table.efficiency(snr: 1e8))
    #expect(table.efficiency(snr: 1e300) == table.efficiency(snr: .infinity))
    #expect(table.efficiency(snr: .nan) == 0)
    #expect(table.efficiency(snr: 0) == 0)
    #expect(abs(table.efficiency(snr: 1e-9) - 1e-9) < 1e-15)
  }
}
