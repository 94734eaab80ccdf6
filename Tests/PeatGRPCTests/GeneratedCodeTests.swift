import Foundation
import Testing

@Suite("Generated code") struct GeneratedCodeTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
  static let protoc = ["/usr/bin/protoc", "/usr/local/bin/protoc", "/opt/homebrew/bin/protoc"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }
  static let plugins = ["protoc-gen-swift", "protoc-gen-grpc-swift-2"].map {
    root.appendingPathComponent(".build/release/\($0)")
  }
  static let canGenerate =
    protoc != nil
    && plugins.allSatisfy { FileManager.default.isExecutableFile(atPath: $0.path) }

  @Test(
    .enabled(
      if: canGenerate,
      "protoc or its plugins are not here; Tools/generate-protos builds the plugins"
    ))
  func `is what the protocol file gives`() async throws {
    try await withTemporaryFolder { folder in
      let process = Process()
      process.executableURL = URL(fileURLWithPath: try #require(Self.protoc))
      process.arguments = [
        "--proto_path=\(Self.root.path)/Sources/PeatGRPC/Protos",
        "--plugin=protoc-gen-swift=\(Self.plugins[0].path)", "--swift_out=\(folder.path)",
        "--swift_opt=Visibility=Internal",
        "--plugin=protoc-gen-grpc-swift-2=\(Self.plugins[1].path)",
        "--grpc-swift-2_out=\(folder.path)", "--grpc-swift-2_opt=Visibility=Internal",
        "federation.proto",
      ]
      try process.run()
      process.waitUntilExit()
      #expect(process.terminationStatus == 0)
      let checkedIn = Self.root.appendingPathComponent("Sources/PeatGRPC/Generated")
      for name in ["federation.pb.swift", "federation.grpc.swift"] {
        let fresh = try Data(contentsOf: folder.appendingPathComponent(name))
        let kept = try Data(contentsOf: checkedIn.appendingPathComponent(name))
        #expect(fresh == kept, "\(name) is out of date: run Tools/generate-protos")
      }
    }
  }
}
