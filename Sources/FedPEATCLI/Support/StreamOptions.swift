import ArgumentParser
import FedPEAT
import Foundation

/// Whether a file of texts is read piece by piece.
struct StreamOptions: ParsableArguments {
  @Flag(
    inversion: .prefixedNo,
    help:
      "Read text or JSON lines piece by piece, as one stream whose tokens lie in a temporary file of 4 bytes each: for files larger than memory; from 256 MiB on if not given."
  )
  var stream: Bool?

  /// Whether to do so with this file, as one stream of next or masked tokens.
  func isFor(_ file: URL) throws -> Bool { try StreamedText.isFor(file, asked: stream) }
}
