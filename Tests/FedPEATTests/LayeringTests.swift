import Foundation
import TestSupport
import Testing

/// The rooms may only import what lies below them.
@Suite("Layering") struct LayeringTests {
  /// For each room of Sources/ the rooms it may import, directly or through others. Imports go down.
  static let allowed: [String: Set<String>] = {
    var table: [String: Set<String>] = [
      "CPeatBLAS": [], "CPeatHints": [], "CPeatImages": [],
      "PeatTensor": ["CPeatBLAS", "CPeatHints"],
    ]
    func room(_ name: String, over below: String...) {
      table[name] = below.reduce(into: Set(below)) { $0.formUnion(table[$1] ?? []) }
    }
    room("PeatNN", over: "PeatTensor")
    room("PeatTokenizers", over: "PeatTensor")
    room("PeatModels", over: "PeatNN")
    room("PeatData", over: "PeatModels", "PeatTokenizers")
    room("PeatImages", over: "PeatData", "CPeatImages")
    room("PeatTuning", over: "PeatData")
    room("PeatEmulation", over: "PeatTuning")
    room("PeatEvaluation", over: "PeatEmulation")
    // The federation's side knows tensors and no transformer.
    room("PeatFederation", over: "PeatTensor")
    // Certificates, tokens and signatures know clients' names and no connection.
    room("PeatSecurity", over: "PeatFederation")
    room("PeatGRPC", over: "PeatSecurity")
    room("PeatMonitor", over: "PeatFederation")
    // What is kept of a run, in a database: on the owner's side alone.
    room("PeatStore", over: "PeatFederation")
    room("FedPEATClient", over: "PeatEvaluation", "PeatGRPC", "PeatImages")
    // The controller knows networks and no federation.
    room("PeatControl", over: "PeatNN")
    room("PeatEdge", over: "PeatControl", "PeatFederation")
    room("PeatHub", over: "PeatTensor")
    room("FedPEAT", over: "FedPEATClient", "PeatEdge", "PeatHub", "PeatMonitor", "PeatStore")
    room("FedPEATCLI", over: "FedPEAT")
    return table
  }()

  /// Packages of others that a room may import, beside the standard library and Foundation.
  static let foreign: [String: Set<String>] = [
    "PeatTensor": ["Crypto"], "PeatHub": ["Crypto"], "PeatFederation": ["Logging", "Crypto"],
    "PeatSecurity": ["Crypto", "SwiftASN1", "X509"],
    "PeatGRPC": [
      "GRPCCore", "GRPCNIOTransportHTTP2Posix", "GRPCProtobuf", "SwiftProtobuf", "Logging",
      "NIOCore", "NIOPosix", "NIOSSL", "Crypto", "SwiftASN1", "X509",
    ],
    "PeatMonitor": ["Hummingbird", "HummingbirdCore", "Logging"],
    "PeatStore": ["GRDB"],
    "FedPEATClient": ["Logging"], "FedPEAT": ["Logging", "Yams"],
    "FedPEATCLI": ["ArgumentParser", "Logging"],
  ]

  static let system: Set<String> = [
    "Foundation", "Dispatch", "Synchronization", "Glibc", "Darwin", "Accelerate", "Swift",
    "FoundationEssentials", "FoundationNetworking", "Musl",
  ]

  private static let sources = ProjectFolders.root.appendingPathComponent("Sources")

  /// The modules that a Swift file imports, at its top; what stands further in is text in another language.
  private func imports(of file: URL) throws -> [String] {
    try String(contentsOf: file, encoding: .utf8).split(separator: "\n").compactMap { line in
      if line.hasPrefix("    ") { return nil }
      let words = line.split(separator: " ").filter {
        !$0.hasPrefix("@") && !["public", "package", "internal", "private"].contains($0)
      }
      guard words.count >= 2, words[0] == "import" else { return nil }
      let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let"]
      let name = kinds.contains(words[1]) && words.count > 2 ? words[2] : words[1]
      return name.split(separator: ".").first.map(String.init)
    }
  }

  @Test func `no room imports upwards`() throws {
    let rooms = try FileManager.default.contentsOfDirectory(atPath: Self.sources.path)
      .filter { !$0.hasPrefix(".") }
    #expect(Set(rooms) == Set(Self.allowed.keys), "a new room needs a line in the table")
    var files = 0
    for room in rooms {
      let folder = Self.sources.appendingPathComponent(room)
      let names = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String }
      for name in names ?? [] where name.hasSuffix(".swift") {
        files += 1
        for module in try imports(of: folder.appendingPathComponent(name)) {
          let isAllowed =
            Self.system.contains(module) || Self.allowed[room]?.contains(module) == true
            || Self.foreign[room]?.contains(module) == true
          #expect(isAllowed, "\(room)/\(name) imports \(module)")
        }
      }
    }
    #expect(files > 100)
  }

  @Test func `the table itself has no circle`() {
    for (room, below) in Self.allowed {
      #expect(!below.contains(room))
      for lower in below {
        #expect(Self.allowed[lower]?.contains(room) == false, "\(room), \(lower)")
      }
    }
  }

  @Test func `the package's graph states no more than the table allows`() throws {
    let manifest = try String(
      contentsOf: ProjectFolders.root.appendingPathComponent("Package.swift"), encoding: .utf8)
    // Lists that several targets share: `let toModels: [Target.Dependency] = ["PeatTensor", …]`, `let toData = toModels + …`.
    var lists: [String: Set<String>] = [:]
    for line in manifest.split(separator: "\n") where line.hasPrefix("let to") {
      let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "\"" }.map(String.init)
      let quoted = line.split(separator: "\"").enumerated().filter { $0.offset % 2 == 1 }
      lists[words[1]] = words.dropFirst(2).reduce(into: Set(quoted.map { String($0.element) })) {
        $0.formUnion(lists[$1] ?? [])
      }
    }
    #expect(lists.count > 3)
    // Each target's stanza up to the next; names of rooms in it are what it depends on.
    let stanzas = manifest.components(separatedBy: "arget(").dropFirst()
    var seen: Set<String> = []
    for stanza in stanzas {
      let names = stanza.split(separator: "\"").enumerated().filter { $0.offset % 2 == 1 }
        .map { String($0.element) }
      guard let room = names.first, let below = Self.allowed[room], stanza.contains("name:") else {
        continue
      }
      // The nested `.target(name: "CPeatBLAS", condition: …)` is a dependency, not a target.
      if room == "CPeatBLAS" { continue }
      seen.insert(room)
      let shared = stanza.split { !$0.isLetter && !$0.isNumber }.compactMap { lists[String($0)] }
      let dependencies = shared.reduce(into: Set(names.dropFirst())) { $0.formUnion($1) }
        .filter { Self.allowed[$0] != nil }
      for dependency in dependencies {
        #expect(below.contains(dependency), "\(room) depends on \(dependency)")
      }
    }
    #expect(seen == Set(Self.allowed.keys).subtracting(["CPeatBLAS", "CPeatHints"]))
  }

  @Test func `what is built and resolved is not kept in the repository`() throws {
    let root = ProjectFolders.root
    let ignored = try String(
      contentsOf: root.appendingPathComponent(".gitignore"), encoding: .utf8
    )
    .split(separator: "\n").map { $0.trimmingCharacters(in: CharacterSet(charactersIn: "/ ")) }
    #expect(ignored.contains(".build"))
    #expect(ignored.contains("Package.resolved"))
    guard FileManager.default.fileExists(atPath: root.appendingPathComponent(".git").path) else {
      return
    }
    let git = Process()
    git.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    git.arguments = [
      "git", "-c", "safe.directory=*", "-C", root.path, "ls-files", "--", ".build",
      "Package.resolved",
      "*/.build/*", "*/Package.resolved",
    ]
    let output = Pipe()
    git.standardOutput = output
    try git.run()
    let listed = output.fileHandleForReading.readDataToEndOfFile()
    git.waitUntilExit()
    #expect(git.terminationStatus == 0)
    #expect(String(decoding: listed, as: UTF8.self) == "")
  }
}
