// swift-tools-version:6.2
import PackageDescription

// The smallest app that takes part in a federation. It embeds FedPEATClient: no server, no database, no command line.
// In a project of your own, name the repository's URL in place of the path.
let package = Package(
  name: "DeviceApp",
  platforms: [.macOS("15.0"), .iOS("18.0")],
  dependencies: [
    .package(name: "FedPEAT", path: "../..")
  ],
  targets: [
    .executableTarget(
      name: "DeviceApp",
      dependencies: [.product(name: "FedPEATClient", package: "FedPEAT")],
      swiftSettings: [.swiftLanguageMode(.v6)])
  ]
)
