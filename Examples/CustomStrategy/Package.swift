// swift-tools-version:6.2
import PackageDescription

// A strategy, a data set and a client loop of one's own, in one file outside of FedPEAT: Sources/CustomStrategy/main.swift.
// In a project of your own, name the repository's URL in place of the path.
let package = Package(
  name: "CustomStrategy",
  platforms: [.macOS("15.0"), .iOS("18.0")],
  dependencies: [
    .package(name: "FedPEAT", path: "../..")
  ],
  targets: [
    .executableTarget(
      name: "CustomStrategy",
      dependencies: [.product(name: "FedPEATClient", package: "FedPEAT")],
      swiftSettings: [.swiftLanguageMode(.v6)])
  ]
)
