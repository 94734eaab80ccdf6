/// A client's part in a round as the coordinator saw it: by its own clock and its own count of bytes.
public struct ObservedTrip: Sendable, Codable, Equatable {
  /// From the task being there for it to the last byte of the update, or to the end of its part.
  public var seconds: Double
  /// Of them: while downloads waited for the client to take what it asked for.
  public var downloadSeconds: Double
  /// Of them: from the offer of the update to its last byte.
  public var uploadSeconds: Double
  /// Payload that it was sent and that came from it, in bytes.
  public var bytesDown: Int
  public var bytesUp: Int

  public init(
    seconds: Double, downloadSeconds: Double = 0, uploadSeconds: Double = 0, bytesDown: Int = 0,
    bytesUp: Int = 0
  ) {
    self.seconds = seconds
    self.downloadSeconds = downloadSeconds
    self.uploadSeconds = uploadSeconds
    self.bytesDown = bytesDown
    self.bytesUp = bytesUp
  }
}

extension Telemetry {
  /// What is believed of a client's report: no more than the coordinator's own clock and count of bytes allow.
  ///
  /// With the trip T, of which downloads were served for at least t↓ and the upload took t↑:
  ///
  ///     download ≥ t↓        download + compute ≤ T − t↑        download + compute ≥ ½ T − t↑        compute ≥ (T − t↑ − t↓) / 10
  ///
  /// So nobody is slower than its whole trip was, and who reports that it is quicker is believed only as far as half of the trip may be
  /// overhead: the rest counts as computing. Nor was all of it a download that was served in less: somebody computed. Bytes are the
  /// coordinator's own count.
  package func bounded(by trip: ObservedTrip) -> Telemetry {
    var result = self
    result.bytesDown = trip.bytesDown
    result.bytesUp = trip.bytesUp
    let most = max(trip.seconds - trip.uploadSeconds, 0)
    let served = min(trip.downloadSeconds, most)
    let least = (most - served) / 10
    var download = min(max(downloadSeconds, served), most)
    var compute = min(max(computeSeconds, least), most)
    if download + compute > most {
      download = min(max(download * most / (download + compute), served), most - least)
      compute = most - download
    }
    result.downloadSeconds = download
    result.computeSeconds = max(compute, most - download - trip.seconds / 2)
    return result
  }
}
