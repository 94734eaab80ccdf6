import Foundation
import PeatFederation
import PeatTensor

/// A coordinator that misbehaves as it is told.
actor FakeEndpoint: CoordinatorEndpoint {
  var task: TrainingTask?
  private let blobs: [Digest: Data]
  private let error: PeatError?
  private(set) var failures: [FailureReport] = []

  init(task: TrainingTask? = nil, blobs: [Digest: Data] = [:], error: PeatError? = nil) {
    self.task = task
    self.blobs = blobs
    self.error = error
  }

  func join(_ request: JoinRequest) async throws -> JoinReply {
    if let error { throw error }
    return JoinReply(run: "fake", session: "s", rounds: 1)
  }

  func nextTask(_ caller: Caller) async throws -> TaskReply {
    if let error { throw error }
    guard let task else { return .finished(.completed) }
    self.task = nil
    return .train(task)
  }

  func download(
    _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
  ) async throws {
    if let error { throw error }
    let data = blobs[request.digest] ?? Data()
    try await write(Data(data.dropFirst(request.offset)))
  }

  func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
    if let error { throw error }
    return .accepted
  }

  func receive(_ chunk: Data, ticket: String, offset: Int) async throws {
    if let error { throw error }
  }

  func finishUpload(ticket: String) async throws -> UploadReply {
    if let error { throw error }
    return .accepted
  }

  func report(_ failure: FailureReport) async throws {
    if let error { throw error }
    failures.append(failure)
  }

  func attend(_ caller: Caller) async throws -> AttendReply {
    if let error { throw error }
    try await Task.sleep(for: .seconds(60))
    return .rejoin
  }

  func leave(_ caller: Caller) async {}
}
