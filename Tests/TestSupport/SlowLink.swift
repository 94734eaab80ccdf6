import Foundation

/// Two network namespaces joined by a slow and lossy link, made by `Tools/slow-link`; gone when this is.
public final class SlowLink: Sendable {
  /// A command of either side begins with this.
  public let coordinatorSide: [String]
  public let clientSide: [String]
  /// Where the coordinator's side is reached.
  public static let address = "10.77.0.1"

  private let process: Process
  /// The tool ends when this is closed.
  private let input = Pipe()
  private let output = Pipe()

  /// Whether namespaces and TUN devices can be made here.
  public static let isPossible: Bool = {
    guard geteuid() == 0, FileManager.default.fileExists(atPath: "/dev/net/tun") else {
      return false
    }
    let name = "fedpeat-try-\(ProcessInfo.processInfo.processIdentifier)"
    guard run("ip", "netns", "add", name) else { return false }
    return run("ip", "netns", "delete", name) && run("python3", "--version")
  }()

  /// - Parameter options: those of the tool.
  public init(_ options: [String]) throws {
    let name = "fedpeat-\(ProcessInfo.processInfo.processIdentifier)"
    coordinatorSide = ["ip", "netns", "exec", "\(name)-a"]
    clientSide = ["ip", "netns", "exec", "\(name)-b"]
    process = Process()
    process.executableURL = ProjectFolders.root.appendingPathComponent("Tools/slow-link")
    process.arguments = [name] + options
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    // "ready", or nothing where it could not be made.
    guard !output.fileHandleForReading.availableData.isEmpty else {
      throw CocoaError(.featureUnsupported)
    }
  }

  /// Takes the link away; what it carried, in words.
  public func close() -> String {
    try? input.fileHandleForWriting.close()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: text, as: UTF8.self)
  }

  deinit {
    if process.isRunning { _ = close() }
  }

  private static func run(_ command: String...) -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }
}
