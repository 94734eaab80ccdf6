import FedPEATClient
import Foundation

/// A device that takes part in a federation with a text of its own.
///
///     swift run -c release DeviceApp 127.0.0.1:50051 diary.txt
///     swift run -c release DeviceApp lab.example.org:50051 diary.txt TOKEN
///
/// The text never leaves this process. What travels is the emulator and the adapter on the way down, and the tuned
/// adapter on the way up.
@main
enum DeviceApp {
  static func main() async {
    guard (3...4).contains(CommandLine.arguments.count) else {
      tell("usage: DeviceApp HOST:PORT TEXT-FILE [TOKEN]")
      exit(PeatError.Code.usage.rawValue)
    }
    do {
      try await takePart(
        coordinator: CommandLine.arguments[1],
        text: URL(fileURLWithPath: CommandLine.arguments[2]),
        token: try CommandLine.arguments.dropFirst(3).first.map { try EnrolmentToken($0) })
    } catch let error as PeatError {
      tell(error.message)
      exit(error.code.rawValue)
    } catch {
      tell("\(error)")
      exit(PeatError.Code.internalError.rawValue)
    }
  }

  /// Joins the coordinator, tunes the adapter in each round it is asked to, and returns when the run is over.
  static func takePart(coordinator: String, text: URL, token: EnrolmentToken?) async throws {
    // The data: read once, kept here.
    let documents = try DocumentReader.read(text)

    // What tunes: a model that the coordinator sends, through a few steps per round. One thread leaves the device usable.
    let trainer = DeviceTrainer(documents: documents, threads: 1) { progress in
      tell("step \(progress.report.step) of \(progress.steps), loss \(progress.report.loss)")
    }

    // An app keeps name and folder: what was downloaded lies there under its digest, and a device that comes back need not
    // fetch it again. This example makes new ones each time.
    let name = "device-\(UUID().uuidString.prefix(8).lowercased())"
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(name)
    defer { try? FileManager.default.removeItem(at: folder) }

    // Who it is: what a token is worth, which an app keeps in its folder (Identity(in:) finds it again); or, to a coordinator of the
    // same user on the same machine, that user.
    let (address, id) = (try NetworkAddress(coordinator), try ClientID(name))
    let identity =
      if let token {
        try await Identity.enrol(
          token, as: id, at: address, keepingIn: folder.appendingPathComponent("identity"))
      } else {
        try Identity.ofThisUser(as: id)
      }

    let connection = try GRPCConnection(to: address, security: .mutualTLS(identity))
    let client = try Client(
      ClientConfiguration(client: id), connection: connection, trainer: trainer, workFolder: folder)
    do {
      let report = try await client.run()
      await connection.close()
      tell(
        "\(report.updates) updates taken, \(report.bytesDown) bytes down, \(report.bytesUp) bytes up"
      )
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Progress goes to standard error.
  static func tell(_ line: String) {
    FileHandle.standardError.write(Data("\(line)\n".utf8))
  }
}
