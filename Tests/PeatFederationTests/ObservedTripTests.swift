import PeatFederation
import TestSupport
import Testing

@Suite("What is believed of a client's report") struct ObservedTripTests {
  /// Ten seconds, of which downloads were served for one and the upload took two.
  private let trip = ObservedTrip(
    seconds: 10, downloadSeconds: 1, uploadSeconds: 2, bytesDown: 1000, bytesUp: 500)

  private func believed(_ download: Double, _ compute: Double) -> (Double, Double) {
    let claim = Telemetry(
      bytesDown: .max, bytesUp: .max, downloadSeconds: download, computeSeconds: compute)
    let result = claim.bounded(by: trip)
    #expect(result.bytesDown == 1000 && result.bytesUp == 500)
    return (result.downloadSeconds, result.computeSeconds)
  }

  @Test func `an honest report stays as it is`() {
    #expect(believed(2, 5) == (2, 5))
    #expect(believed(1, 2.5) == (1, 2.5))
  }

  @Test func `nobody is slower than the whole trip was`() {
    // Eight seconds are left beside the upload, in the proportion that was claimed.
    #expect(believed(8, 8) == (4, 4))
    #expect(believed(0, 1e300) == (1, 7))
    #expect(believed(1e308, 1e308) == (4, 4))
  }

  @Test func `not all of a trip was a download that was served in less`() {
    // A tenth of the seven seconds that neither downloads nor the upload took.
    let (download, compute) = believed(1e300, 0)
    #expect(abs(download - 7.3) < 1e-12 && abs(compute - 0.7) < 1e-12)
    #expect(abs(believed(8, 1e-300).1 - 0.7) < 1e-12)
  }

  @Test func `nobody is quicker than downloads were served, and half of the trip may be overhead`()
  {
    // 1 + 2 + 2 seconds are half of ten.
    #expect(believed(0, 0) == (1, 2))
    #expect(believed(1e-300, 1e-300) == (1, 2))
    #expect(believed(2, 0) == (2, 1))
    #expect(believed(4, 1) == (4, 1))
  }

  @Test func `a trip that makes no sense bounds to nothing below zero`() {
    let odd = ObservedTrip(seconds: 1, downloadSeconds: 5, uploadSeconds: 3)
    let result = Telemetry(downloadSeconds: 4, computeSeconds: 4).bounded(by: odd)
    #expect(result.downloadSeconds == 0 && result.computeSeconds == 0)
  }
}
