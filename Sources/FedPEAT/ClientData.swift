import Foundation

/// The texts of a run that has them all here: each client's, and what is held back to measure on.
public struct ClientData: Sendable {
  public var groups: [DocumentGroup]
  public var evaluation: [Document]
  /// What came of the division, before a part was held back.
  public let partition: PartitionReport
  /// Each client's texts with what was held back of them, where clients are measured for themselves; else none.
  public private(set) var clients: [ClientTexts] = []

  /// Reads and divides what the configuration names.
  public init(_ configuration: RunConfiguration) throws {
    guard let data = configuration.data else {
      throw PeatError.usage(
        "The run needs the clients' texts: 'data: FILE' in the run file, or --data FILE.")
    }
    let url = URL(fileURLWithPath: data)
    let rule = try configuration.partitionRule
    let parts: [[Document]]
    var documents = try configuration.documents(in: url, by: rule.field)
    if case .field(let field) = rule {
      let sources = try DocumentReader.groups(of: documents, by: field, in: "'\(url.path)'")
      parts = try FieldPartitioner.deal(sources, clients: configuration.clients, field: field)
        .map { numbers in numbers.flatMap { sources[$0].documents } }
    } else {
      if case .dirichlet = rule {
      } else if documents.count == 1, let text = documents.first,
        text.isPlainText
      {
        documents = try text.pieces(for: configuration.clients, in: url)
      }
      parts = try rule.partitioner(seed: configuration.seed).divide(
        documents, clients: configuration.clients)
    }
    let transforms = try configuration.pictureTransforms
    groups = try parts.enumerated().map { number, documents in
      let changed = transforms.isEmpty ? nil : transforms[number % transforms.count]
      return DocumentGroup(
        name: "client-\(number + 1)",
        documents: try changed.map { change in
          try documents.map { try $0.transformed(by: change) }
        } ?? documents)
    }
    partition = try PartitionReport(groups, field: rule.field)
    evaluation =
      try configuration.evaluationData.map {
        try configuration.evaluationDocuments(in: URL(fileURLWithPath: $0))
      } ?? []
    guard configuration.evaluationData == nil || configuration.perClient else { return }
    for index in groups.indices {
      let parts = try groups[index].holdingBack(configuration.validationShare, configuration.seed)
      groups[index] = parts.rest
      if configuration.evaluationData == nil { evaluation += parts.held }
      if configuration.perClient {
        clients.append(
          ClientTexts(
            name: groups[index].name, training: parts.rest.documents, heldOut: parts.held))
      }
    }
  }
}

extension RunConfiguration {
  /// The documents of a file or folder; with a class for each, where the task is to tell them apart.
  ///
  /// - Parameter field: what they are to be divided by, as `DocumentReader.read` takes it.
  public func documents(in url: URL, by field: String? = nil) throws -> [Document] {
    guard task == .classification || task == nil && !model.isEmpty else {
      return try DocumentReader.read(url, by: field)
    }
    // The head says it, where the task does not.
    return try Checkpoint(folder: modelFolder()).configuration.documents(
      in: url, classes: task == nil ? nil : true, by: field)
  }

  /// The data that says which classes there are, where neither the run nor its model does; `nil` where nothing has to.
  func documentsOfClasses() throws -> [Document]? {
    guard task == .classification || newHead, labels == nil, let data,
      try newHead || Checkpoint(folder: modelFolder()).configuration.head?.labels == nil
    else { return nil }
    return try documents(in: URL(fileURLWithPath: data))
  }

  /// The beginning of the data, where it says how a model with an encoder divides it; `nil` for other models.
  func documentsOfPairs() throws -> [Document]? {
    guard let file = evaluationData ?? data,
      try Checkpoint(folder: modelFolder()).configuration.hasEncoder
    else { return nil }
    return Array(try documents(in: URL(fileURLWithPath: file)).prefix(1000))
  }

  /// What is measured on: the documents of a file, pictures changed as the clients' are, each by the next in turn.
  public func evaluationDocuments(in url: URL) throws -> [Document] {
    let documents = try documents(in: url)
    let transforms = try pictureTransforms
    guard !transforms.isEmpty else { return documents }
    return try documents.enumerated().map {
      try $1.transformed(by: transforms[$0 % transforms.count])
    }
  }

  /// What is done to the clients' pictures, in turn; nothing where it is empty.
  var pictureTransforms: [PictureTransform] {
    get throws { try (clientTransforms ?? []).map { try PictureTransform($0) } }
  }

  /// How the clients' texts are divided.
  ///
  /// Throws `usage` where `partition` is no way to do so, or another than `clientsBy` says.
  public var partitionRule: PartitionRule {
    get throws {
      guard let partition else { return clientsBy.map(PartitionRule.field) ?? .iid }
      let rule = try PartitionRule(partition)
      if let clientsBy, rule != .field(clientsBy) {
        throw PeatError.usage(
          "clientsBy is '\(clientsBy)' and partition is '\(partition)': name one of them.")
      }
      return rule
    }
  }
}

extension Document {
  /// A text that is one document, in pieces to divide among clients: its paragraphs, or its lines where it has too few of them for that.
  ///
  /// - Throws: `badData` where it has too few of both.
  fileprivate func pieces(for clients: Int, in file: URL) throws -> [Document] {
    guard clients > 1 else { return [self] }
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    let isBlank = lines.map { $0.allSatisfy(\.isWhitespace) }
    let paragraphs = zip(lines, isBlank).split { $0.1 }
      .map { Document($0.map(\.0).joined(separator: "\n") + "\n") }
    // So many that each client has something to hold back.
    if paragraphs.count >= 2 * clients { return paragraphs }
    let filled = zip(lines, isBlank).filter { !$0.1 }.map { Document($0.0 + "\n") }
    guard filled.count >= clients else {
      throw PeatError.badData(
        "'\(file.path)' is one text of \(filled.count) line\(filled.count == 1 ? "" : "s"), which can't be divided among \(clients) clients: a text is divided by its paragraphs (with an empty line between them) or lines. Give more text, JSON lines with a text each, or a folder with a file for each client and 'clientsBy'."
      )
    }
    return filled
  }
}

extension ClientData {
  /// Each client's share of all text.
  public func shares() throws -> [ClientID: Double] {
    let sizes = groups.map(\.byteCount)
    let total = Double(max(sizes.reduce(0, +), 1))
    return Dictionary(
      uniqueKeysWithValues: try zip(groups, sizes).map {
        (try ClientID($0.name), Double($1) / total)
      })
  }
}

extension DocumentGroup {
  /// Cuts off a share to measure on: whole documents chosen by the seed, or the end of the text where there are few.
  func holdingBack(_ share: Double, _ seed: UInt64) throws -> (
    rest: DocumentGroup, held: [Document]
  ) {
    if documents.count >= 10 {
      var random = SeededRandom(seed: seed, "held back of \(name)")
      let order = random.shuffled(Array(documents.indices))
      let held = Set(order.prefix(max(1, Int(Double(documents.count) * share))))
      return (
        DocumentGroup(
          name: name,
          documents: documents.indices.filter { !held.contains($0) }.map { documents[$0] }),
        documents.indices.filter { held.contains($0) }.map { documents[$0] }
      )
    }
    guard let last = documents.last, !last.hasGivenPart, last.text.count >= 20 else {
      throw PeatError.badData(
        "'\(name)' has too little text to hold back a part to measure on. Give 'evaluationData: FILE'."
      )
    }
    let cut = last.text.index(
      last.text.endIndex, offsetBy: -max(1, Int(Double(last.text.count) * share)))
    let rest = Document(String(last.text[..<cut]), fields: last.fields)
    return (
      DocumentGroup(name: name, documents: documents.dropLast() + [rest]),
      [Document(String(last.text[cut...]), fields: last.fields)]
    )
  }
}
