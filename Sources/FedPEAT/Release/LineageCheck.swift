import Foundation

/// What a check of an adapter's lineage found; what does not hold is an error.
public struct LineageCheck: Sendable, Encodable {
  public var adapter: Digest
  public var run: RunID
  public var round: Int
  public var method: String
  public var sourceDigest: Digest
  public var gate: ReleaseGate
  public var plugIn: Double?
  public var zeroShot: Double?
  public var rounds: Int
  public var clients: Int
  public var updates: Int
  /// Updates with their client's signature, all of which hold.
  public var signedUpdates: Int
  /// Whether the coordinator signed it, who that was, and whether an authority that was named vouches for it.
  public var isSigned: Bool
  public var signer: String?
  public var isTrusted: Bool

  /// Every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(adapter, forKey: .adapter)
    try table.encode(run, forKey: .run)
    try table.encode(round, forKey: .round)
    try table.encode(method, forKey: .method)
    try table.encode(sourceDigest, forKey: .sourceDigest)
    try table.encode(gate, forKey: .gate)
    try table.encode(plugIn, forKey: .plugIn)
    try table.encode(zeroShot, forKey: .zeroShot)
    try table.encode(rounds, forKey: .rounds)
    try table.encode(clients, forKey: .clients)
    try table.encode(updates, forKey: .updates)
    try table.encode(signedUpdates, forKey: .signedUpdates)
    try table.encode(isSigned, forKey: .isSigned)
    try table.encode(signer, forKey: .signer)
    try table.encode(isTrusted, forKey: .isTrusted)
  }

  private enum CodingKeys: String, CodingKey {
    case adapter, run, round, method, sourceDigest, gate, plugIn, zeroShot, rounds, clients
    case updates, signedUpdates
    case isSigned = "signed"
    case signer
    case isTrusted = "trusted"
  }

  /// Checks an adapter's folder: that the file is the one that the lineage is of, the coordinator's signature, and each client's.
  ///
  /// - Parameter trust: a PEM file of the authorities that the coordinator's certificate must come from; `nil`: it is not asked.
  /// - Throws: `inputOutput` where there is no lineage, `badData` where something does not hold.
  public init(_ folder: URL, trust: URL?) throws {
    let place = folder.appendingPathComponent(Lineage.file)
    guard FileManager.default.fileExists(atPath: place.path) else {
      throw PeatError.inputOutput(
        "'\(folder.path)' has no \(Lineage.file): it is no adapter that a run released. An adapter that was withheld has none."
      )
    }
    let file = try JSONFile.read(LineageFile.self, from: place)
    let lineage = file.lineage
    guard lineage.formatVersion == Lineage.currentFormat else {
      throw PeatError.badData(
        "'\(place.path)' has formatVersion \(lineage.formatVersion); this program reads \(Lineage.currentFormat)."
      )
    }
    (adapter, run, round, method) = (
      lineage.adapter, lineage.run, lineage.round, lineage.method
    )
    (sourceDigest, gate) = (lineage.sourceDigest, lineage.gate)
    (plugIn, zeroShot) = (lineage.plugIn, lineage.zeroShot)
    rounds = lineage.rounds.count
    let all = lineage.rounds.flatMap(\.updates)
    updates = all.count
    clients = Set(all.map(\.client)).count
    let found = try Self.digest(of: folder)
    guard found == lineage.adapter else {
      throw PeatError.badData(
        "The adapter in '\(folder.path)' has the digest \(found.short)…, its lineage is of \(lineage.adapter.short)…: it is another one, or was changed."
      )
    }
    signedUpdates = try Self.checkUpdates(of: lineage)
    isSigned = file.seal != nil
    isTrusted = false
    if let seal = file.seal {
      guard let date = ISO8601DateFormatter().date(from: lineage.date) else {
        throw PeatError.badData("'\(place.path)' has the date '\(lineage.date)', which is none.")
      }
      let signer = try seal.verify(LineageFile.bytes(of: lineage), trust: trust, at: date)
      self.signer = "\(signer.name), certificate \(signer.serial)"
      isTrusted = trust != nil
    } else if trust != nil {
      throw PeatError.badData(
        "'\(place.path)' is not signed: its coordinator had no certificate. Leave --trust out to check the rest."
      )
    }
  }

  /// Of an adapter's file.
  static func digest(of folder: URL) throws -> Digest {
    for name in ["adapter_model.safetensors", "model.safetensors"] {
      let file = folder.appendingPathComponent(name)
      guard FileManager.default.fileExists(atPath: file.path) else { continue }
      return try SafeTensorsFile(contentsOf: file).tensors().digest
    }
    throw PeatError.inputOutput("'\(folder.path)' has no adapter_model.safetensors.")
  }

  /// Checks that each update that is signed is so by its client for the adapter that its task began with; gives their number.
  private static func checkUpdates(of lineage: Lineage) throws -> Int {
    let bases = Dictionary(
      lineage.rounds.map { ($0.round, $0.base) }, uniquingKeysWith: { first, _ in first })
    var signed = 0
    for update in lineage.rounds.flatMap(\.updates) {
      guard let signature = update.signature else { continue }
      let what = "The update of '\(update.client)' to round \(update.round)"
      guard let key = signature.key, let base = bases[update.round] else {
        throw PeatError.badData("\(what) has a signature that can't be checked.")
      }
      let statement = UpdateStatement(
        run: lineage.run, round: update.round, client: update.client, base: base, signature)
      guard statement.isSigned(signature.signature, by: key) else {
        throw PeatError.badData(
          "\(what) is not signed by its client for that round and adapter: the lineage was changed."
        )
      }
      signed += 1
    }
    return signed
  }
}
