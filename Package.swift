// swift-tools-version:6.2
import Foundation
import PackageDescription

// The kernels are written with SIMD types. FEDPEAT_KERNELS says for which level of x86-64 they are built: `v4` (AVX-512,
// vectors of 16 floats), `v3` (AVX2 and FMA, 2013 and later), or `portable`, any machine, several times slower. The
// `fedpeat` script chooses by the processor.
#if arch(x86_64)
  let level = ProcessInfo.processInfo.environment["FEDPEAT_KERNELS"] ?? "v3"
#elseif arch(arm64)
  let level = "neon"  // Part of every arm64 processor: nothing to choose.
#else
  let level = "portable"
#endif

let common: [SwiftSetting] = [.swiftLanguageMode(.v6)]
let knowingKernels: [SwiftSetting] =
  switch level {
  case "v4": common + [.define("PEAT_FMA"), .define("PEAT_WIDE")]
  case "v3", "neon": common + [.define("PEAT_FMA")]
  default: common
  }
let kernels: [SwiftSetting] =
  knowingKernels
  + (level == "v4" || level == "v3" ? [.unsafeFlags(["-Xcc", "-march=x86-64-\(level)"])] : [])

// A target names every room that it sees, also through others: else a change there would not rebuild it.
let toModels: [Target.Dependency] = ["PeatTensor", "PeatNN", "PeatModels"]
let toData = toModels + ["PeatTokenizers", "PeatData"]
let toTuning = toData + ["PeatTuning"]
let toEvaluation = toTuning + ["PeatEmulation", "PeatEvaluation"]
let toConnection: [Target.Dependency] = [
  "PeatTensor", "PeatFederation", "PeatSecurity", "PeatGRPC",
]
let toControl: [Target.Dependency] = ["PeatTensor", "PeatNN", "PeatControl"]
let toEdge = toControl + ["PeatFederation", "PeatEdge"]
let toClient =
  toEvaluation + ["PeatFederation", "PeatSecurity", "PeatGRPC", "PeatImages", "FedPEATClient"]
let toWhole =
  toClient + ["PeatControl", "PeatEdge", "PeatHub", "PeatMonitor", "PeatStore"]

let package = Package(
  name: "FedPEAT",
  platforms: [.macOS("15.0"), .iOS("18.0")],
  products: [
    .library(name: "FedPEAT", targets: ["FedPEAT"]),
    .library(name: "FedPEATClient", targets: ["FedPEATClient"]),
    .executable(name: "fedpeat", targets: ["FedPEATCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-asn1.git", from: "1.7.0"),
    .package(url: "https://github.com/apple/swift-certificates.git", from: "1.21.0"),
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.0"),
    .package(url: "https://github.com/apple/swift-crypto", "3.12.0"..<"5.0.0"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.38.0", traits: []),
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.3.0"),
    .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.0"),
    .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.4.0"),
    .package(
      url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0",
      traits: ["FullFoundation"]),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    .systemLibrary(
      name: "CPeatBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CPeatHints"),
    .systemLibrary(
      name: "CPeatImages", providers: [.apt(["libpng-dev", "libturbojpeg0-dev", "zlib1g-dev"])]),
    .target(
      name: "PeatTensor",
      dependencies: [
        "CPeatHints",
        .target(name: "CPeatBLAS", condition: .when(platforms: [.linux])),
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: kernels),
    .target(
      name: "PeatHub",
      dependencies: ["PeatTensor", .product(name: "Crypto", package: "swift-crypto")],
      swiftSettings: common),
    .target(name: "PeatNN", dependencies: ["PeatTensor"], swiftSettings: kernels),
    .target(name: "PeatTokenizers", dependencies: ["PeatTensor"], swiftSettings: common),
    .target(
      name: "PeatModels", dependencies: ["PeatTensor", "PeatNN"], swiftSettings: common),
    .target(
      name: "PeatData", dependencies: toModels + ["PeatTokenizers"], swiftSettings: common),
    .target(
      name: "PeatImages",
      dependencies: toData + [.target(name: "CPeatImages", condition: .when(platforms: [.linux]))],
      swiftSettings: common),
    .target(name: "PeatTuning", dependencies: toData, swiftSettings: common),
    .target(name: "PeatEmulation", dependencies: toTuning, swiftSettings: common),
    .target(
      name: "PeatEvaluation", dependencies: toTuning + ["PeatEmulation"], swiftSettings: common),
    .target(
      name: "PeatFederation",
      dependencies: [
        "PeatTensor", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: common),
    .target(
      name: "PeatSecurity",
      dependencies: [
        "PeatTensor", "PeatFederation",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
        .product(name: "X509", package: "swift-certificates"),
      ],
      swiftSettings: common),
    .target(
      name: "PeatGRPC",
      dependencies: [
        "PeatTensor", "PeatFederation", "PeatSecurity",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
        .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "X509", package: "swift-certificates"),
      ],
      exclude: ["Protos"],
      swiftSettings: common),
    .target(
      name: "PeatMonitor",
      dependencies: [
        "PeatTensor", "PeatFederation",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: common),
    .target(
      name: "PeatStore",
      dependencies: [
        "PeatTensor", "PeatFederation", .product(name: "GRDB", package: "GRDB.swift"),
      ],
      swiftSettings: common),
    .target(name: "PeatControl", dependencies: ["PeatTensor", "PeatNN"], swiftSettings: common),
    .target(
      name: "PeatEdge", dependencies: toControl + ["PeatFederation"],
      swiftSettings: common),
    .target(
      name: "FedPEATClient",
      dependencies: toEvaluation + [
        "PeatFederation", "PeatSecurity", "PeatGRPC", "PeatImages",
      ],
      swiftSettings: common),
    .target(
      name: "FedPEAT",
      dependencies: toWhole + [.product(name: "Yams", package: "Yams")],
      swiftSettings: common),
    .executableTarget(
      name: "FedPEATCLI",
      dependencies: toWhole + [
        "FedPEAT",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: knowingKernels),
    // What tests share; it imports Testing.
    .target(
      name: "TestSupport",
      dependencies: ["PeatTensor", .product(name: "Crypto", package: "swift-crypto")],
      path: "Tests/TestSupport",
      swiftSettings: common),
    .testTarget(
      name: "PeatTensorTests", dependencies: ["PeatTensor", "TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatHubTests",
      dependencies: ["PeatTensor", "PeatHub", "TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatNNTests", dependencies: ["PeatTensor", "PeatNN", "TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "PeatModelsTests", dependencies: toModels + ["TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatTuningTests", dependencies: toTuning + ["TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatTokenizersTests", dependencies: ["PeatTensor", "PeatTokenizers", "TestSupport"],
      exclude: ["Golden"], swiftSettings: common),
    .testTarget(
      name: "PeatDataTests", dependencies: toData + ["TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatImagesTests", dependencies: toData + ["PeatImages", "TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "ParityTests", dependencies: toEvaluation + ["PeatFederation", "TestSupport"],
      exclude: ["Golden", "Reference"], swiftSettings: common),
    .testTarget(
      name: "PeatFederationTests", dependencies: ["PeatTensor", "PeatFederation", "TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "PeatStoreTests",
      dependencies: [
        "PeatTensor", "PeatFederation", "PeatStore", "TestSupport",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      exclude: ["Versions"], swiftSettings: common),
    .testTarget(
      name: "PeatControlTests", dependencies: toControl + ["TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatEdgeTests", dependencies: toEdge + ["TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatSecurityTests",
      dependencies: [
        "PeatTensor", "PeatFederation", "PeatSecurity", "TestSupport",
        .product(name: "Crypto", package: "swift-crypto"),
      ], swiftSettings: common),
    .testTarget(
      name: "PeatGRPCTests",
      dependencies: toConnection + [
        "TestSupport", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "NIOCore", package: "swift-nio"),
      ], swiftSettings: common),
    .testTarget(
      name: "PeatMonitorTests",
      dependencies: ["PeatTensor", "PeatFederation", "PeatMonitor", "TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "CLITests", dependencies: ["PeatTensor", "TestSupport"], swiftSettings: common),
    .testTarget(
      name: "PeatEmulationTests", dependencies: toEvaluation + ["TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "PeatEvaluationTests", dependencies: toEvaluation + ["TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "FedPEATTests", dependencies: toWhole + ["FedPEAT", "TestSupport"],
      swiftSettings: common),
    .testTarget(
      name: "EndToEndTests", dependencies: toWhole + ["FedPEAT", "TestSupport"],
      swiftSettings: common),
  ]
)
