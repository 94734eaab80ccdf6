import Foundation
import PeatTensor
import Synchronization

/// A model folder as Hugging Face lays it out: config.json, *.safetensors, tokenizer files.
///
/// Opening it maps the weights and checks config.json; values are read when the model is made.
public struct Checkpoint: Sendable {
  public let folder: URL
  /// config.json, whole.
  public internal(set) var configurationJSON: JSONValue
  public internal(set) var configuration: TransformerConfiguration
  /// Weights of a new head, which no file has, or which stand in for a file's.
  var added: NamedTensors = [:]
  /// Whether it has another head than the files.
  var hasNewHead = false
  /// Each tensor's name, and the file it lies in.
  let files: [String: SafeTensorsFile]
  /// `emulator.json`, if the folder is an emulator.
  public let emulatorJSON: JSONValue?

  public init(folder: URL) throws {
    self.folder = folder
    let configurationURL = folder.appendingPathComponent("config.json")
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is no model folder '\(folder.path)'.")
    }
    guard isFolder.boolValue else {
      throw PeatError.inputOutput(
        "'\(folder.path)' is a file; a model is a folder with config.json and *.safetensors.")
    }
    guard FileManager.default.isReadableFile(atPath: folder.path) else {
      throw PeatError.inputOutput(
        "Can't see what the folder '\(folder.path)' holds. Check that you have the right to read it."
      )
    }
    guard FileManager.default.fileExists(atPath: configurationURL.path) else {
      throw PeatError.inputOutput(
        "'\(folder.path)' has no config.json; a model is a folder with config.json and *.safetensors."
      )
    }
    configurationJSON = try JSONFile.read(JSONValue.self, from: configurationURL)
    var configuration = try Architectures.configuration(
      from: ConfigurationFile(name: configurationURL.path, json: configurationJSON))
    files = try Checkpoint.openFiles(in: folder, configurationJSON)
    if let head = configuration.head, head.isTied, head.isTiedUnlessStored,
      let own = files[head.weight], let shared = files[configuration.keys.embedding]
    {
      let (table, embedding) = (
        try own.tensor(named: head.weight), try shared.tensor(named: configuration.keys.embedding)
      )
      configuration.head?.isTied =
        table.shape == embedding.shape && table.hasSameBits(as: embedding)
      own.releasePages(of: head.weight)
      shared.releasePages(of: configuration.keys.embedding)
    }
    if let head = configuration.head, let bias = head.bias, let other = head.otherBias,
      files[bias] == nil, files[other] != nil
    {
      // transformers 4 wrote the one bias under that name, tied or not.
      configuration.head?.bias = other
    }
    let emulatorURL = folder.appendingPathComponent("emulator.json")
    if FileManager.default.fileExists(atPath: emulatorURL.path) {
      emulatorJSON = try JSONFile.read(JSONValue.self, from: emulatorURL)
      let facts = try JSONFile.read(EmulatorVariation.self, from: emulatorURL)
      try facts.apply(to: &configuration, from: emulatorURL)
      isPadded = facts.padded ?? false
      packed = (facts.storage ?? [:]).filter { $0.value.axis != nil }
      sparse = (facts.storage ?? [:]).filter { $0.value.packing == SparseTensor.packing }
        .mapValues { $0.shape ?? [] }
    } else {
      emulatorJSON = nil
      isPadded = false
      packed = [:]
      sparse = [:]
    }
    self.configuration = configuration
  }

  /// What the model needs to know of emulator.json.
  struct EmulatorVariation: Decodable {
    fileprivate var variation: ModelVariation?
    fileprivate var encoderBlocks: Int?
    fileprivate var padded: Bool?
    fileprivate var storage: [String: PackedStorage]?

    /// Lets a configuration say how the emulator differs from a model of its sizes.
    ///
    /// - Parameter file: emulator.json, for errors.
    /// - Throws: `badData` where it can't be.
    func apply(to configuration: inout TransformerConfiguration, from file: URL) throws {
      configuration.variation = variation ?? .none
      if let decoder = configuration.keys.decoder {
        guard let count = encoderBlocks, count >= decoder.encoderBlocks, count < 1 << 16 else {
          throw PeatError.badData(
            "'\(file.path)' does not say how many blocks the full model's encoder has (encoderBlocks), at least the \(decoder.encoderBlocks) that are here. Make the emulator again."
          )
        }
        configuration.keys.decoder?.encoderBlocksInFullModel = count
      }
      try configuration.variation.validate(
        for: configuration, source: file.deletingLastPathComponent().path)
    }
  }

  /// How emulator.json says that a matrix is stored.
  fileprivate struct PackedStorage: Decodable {
    var type: String
    var groupSize: Int?
    var axis: Int?
    var scaleType: String?
    var symmetric: Bool?
    var packing: String?
    var shape: [Int]?
  }

  /// Whether narrower blocks lie here as wide as config.json says.
  private let isPadded: Bool
  /// The matrices that stay packed in memory.
  private let packed: [String: PackedStorage]
  /// The shapes of those of which only what is not zero is stored.
  private let sparse: [String: [Int]]

  /// All weights by name, as float32; those stored so share the files' memory. Masks of other types are left out.
  public func tensors() throws -> NamedTensors {
    var result: NamedTensors = [:]
    for (name, file) in files where file.entries[name]?.holdsWeights == true {
      result[name] =
        try sparse[name].map {
          try SparseTensor.read(name, shape: $0, longest: configuration.longestSide, from: file)
        } ?? file.tensor(named: name)
    }
    return result
  }

  /// The model, with block numbers of the full model where this is an emulator.
  ///
  /// - Parameter storage: how matrices are kept; float32 weights that lie so in the files share their memory.
  public func model(storage: StoragePlan = .all(.float32)) throws -> TransformerModel {
    try TransformerModel(
      configuration: configuration,
      weights: StoredWeights(
        files: files, added: added, packed: packed, sparse: sparse,
        padded: isPadded ? try configuration.tensorPlaces() : [:],
        longest: configuration.longestSide, folder: folder.path),
      blockNumbers: try keptBlocks(), storage: storage, source: folder.path)
  }

  private struct StoredWeights: WeightSource {
    let files: [String: SafeTensorsFile]
    let added: NamedTensors
    let packed: [String: PackedStorage]
    let sparse: [String: [Int]]
    let padded: [String: TensorPlaces]
    let longest: Int
    let folder: String

    func packed(named name: String, shape: [Int], inputAxis: Int) throws -> PackedMatrix? {
      guard added[name] == nil, let file = files[name], let stored = packed[name] else {
        return nil
      }
      if let type = StorageType(rawValue: stored.type), let storage = type.packed,
        stored.axis == inputAxis, file.entries[name]?.type == type,
        padded[name] != nil || (sparse[name] ?? file.entries[name]?.shape) == shape
      {
        let tensor = try self.whole(name, in: file)
        if tensor.shape == shape { return PackedMatrix(tensor, as: storage, axis: inputAxis) }
      }
      guard let storage = WeightStorage(rawValue: stored.type) else { return nil }
      guard stored.axis == inputAxis, stored.groupSize == PackedMatrix.groupSize,
        stored.scaleType == "F16", stored.symmetric == true,
        storage == .int8 || stored.packing == PackedMatrix.packing || sparse[name] == shape
      else {
        throw PeatError.badData(
          "'\(folder)/emulator.json' stores '\(name)' in a way that this program does not read: axis \(stored.axis ?? -1), groupSize \(stored.groupSize ?? 0), scaleType \(stored.scaleType ?? "none"), packing \(stored.packing ?? "none"). It reads axis \(inputAxis), groupSize \(PackedMatrix.groupSize), scaleType F16, symmetric, packing \(PackedMatrix.packing)."
        )
      }
      if let stated = sparse[name] {
        guard stated == shape else {
          throw PeatError.badData(
            "'\(folder)/emulator.json' says that '\(name)' has the shape \(stated); the model's is \(shape). The emulator is damaged; make it again."
          )
        }
        return try PackedMatrix(
          sparse: storage, shape: shape, axis: inputAxis, in: file, name: name)
      }
      return try PackedMatrix(storage, shape: shape, axis: inputAxis, in: file, name: name)
    }

    var names: Set<String> {
      Set(files.keys).subtracting(sparse.keys.map { $0 + SparseTensor.maskSuffix })
        .union(added.keys)
    }
    func tensor(named name: String) throws -> Tensor? {
      if let own = added[name] { return own }
      return try files[name].map { try whole(name, in: $0) }
    }

    /// A tensor with all its zeros, or without those that fill it up.
    private func whole(_ name: String, in file: SafeTensorsFile) throws -> Tensor {
      guard let shape = sparse[name] else { return try narrowed(name, in: file) }
      return try SparseTensor.read(name, shape: shape, longest: longest, from: file)
    }

    func release(_ name: String) { files[name]?.releasePages(of: name) }

    /// A tensor without the zeros that fill it up.
    private func narrowed(_ name: String, in file: SafeTensorsFile) throws -> Tensor {
      let tensor = try file.tensor(named: name)
      guard let places = padded[name] else { return tensor }
      guard let narrow = places.gather(tensor) else {
        throw PeatError.badData(
          "'\(folder)/emulator.json' says that '\(name)' is filled up with zeros (padded); in shape \(tensor.shape) it is not. The emulator is damaged; make it again."
        )
      }
      return narrow
    }
  }

  /// Numbers in the full model of an emulator's blocks, from emulator.json; `nil` in a plain checkpoint.
  public func keptBlocks() throws -> [Int]? {
    guard let emulatorJSON else { return nil }
    let numbers = emulatorJSON["keptBlocks"]?.array?.compactMap(\.integer) ?? []
    let middle = numbers.count == configuration.blockCount
    let keys = configuration.keys
    guard middle, keys.counting(numbers).encoderBlocks == keys.encoderBlocks,
      numbers == numbers.sorted(), Set(numbers).count == numbers.count,
      numbers.first.map({ $0 >= 0 }) ?? false
    else {
      throw PeatError.badData(
        "'\(folder.path)/emulator.json': keptBlocks must name \(configuration.blockCount) blocks in rising order, "
          + "as config.json has so many; found \(numbers).")
    }
    return numbers
  }

  /// Bytes of its safetensors files, headers included.
  public var byteCount: Int {
    Dictionary(files.values.map { ($0.url, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
      .values.reduce(0, +)
  }

  /// How most of the values are stored.
  public var storageType: StorageType {
    var bytes: [StorageType: Int] = [:]
    for (name, file) in files {
      if let entry = file.entries[name], let type = entry.type {
        bytes[type, default: 0] += entry.range.count
      }
    }
    return bytes.max { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }?.key ?? .float32
  }

  /// The tensors that the files hold and a model of this checkpoint does not read, with how many values each has: a pooler, a text tower, other names of the
  /// embedding.
  public func unreadCounts(by model: TransformerModel) -> [String: Int] {
    let keys = model.configuration.keys
    // A tied head may lie there once more.
    let own = Set(
      model.parameters.map(\.name) + [model.configuration.head?.weight].compactMap { $0 })
    func isRead(_ stored: String) -> Bool {
      let older = keys.olderSuffixes.first { stored.hasSuffix($0.value) }
      let name = older.map { stored.dropLast($0.value.count) + $0.key } ?? stored
      return own.contains(name) || own.contains((keys.optionalPrefix ?? "") + name)
    }
    return storedCounts.filter { !isRead($0.key) }
  }

  /// Weights of parts that a model of this checkpoint does not compute, as they are stored: what must lie beside its own weights in a checkpoint that Python is to load
  /// whole. Heads that another one took the place of are not among them.
  ///
  /// - Returns: by the names that they have beside the model's, which are written with a prefix that some checkpoints leave out.
  public func unusedWeights(beside model: TransformerModel) -> [String: SafeTensors.Raw] {
    let keys = model.configuration.keys
    let prefix = keys.missingPrefix { files[$0] != nil }
    var result: [String: SafeTensors.Raw] = [:]
    for name in unreadCounts(by: model).keys {
      guard let file = files[name], let entry = file.entries[name],
        !keys.ignoredSuffixes.contains(where: name.hasSuffix),
        !hasNewHead || !TransformerKeys.headPrefixes.contains(where: name.hasPrefix)
      else { continue }
      result[prefix + name] = file.withBytes(of: entry) {
        SafeTensors.Raw(entry.dtype, entry.shape, Data($0))
      }
      file.releasePages(of: name)
    }
    return result
  }

  /// How each tensor is stored.
  public var storageTypes: [String: StorageType] {
    files.reduce(into: [:]) { types, item in
      types[item.key] = item.value.entries[item.key]?.type
    }
  }

  /// How each of a model's weights is stored, by the name that the model has for it.
  public func storageTypes(of model: TransformerModel) -> [String: StorageType] {
    let keys = model.configuration.keys
    let prefix = keys.missingPrefix { files[$0] != nil }
    let stored = storageTypes
    return model.parameters.reduce(into: [:]) { types, parameter in
      let name = parameter.name.dropping(prefix: prefix)
      let older = keys.olderSuffixes.first { name.hasSuffix($0.key) }
        .map { name.dropLast($0.key.count) + $0.value }
      types[parameter.name] = stored[name] ?? older.flatMap { stored[String($0)] }
    }
  }

  /// How many values each tensor has that the files hold, by name.
  public var storedCounts: [String: Int] {
    files.reduce(into: [:]) { counts, item in
      counts[item.key] = item.value.entries[item.key]?.shape.reduce(1, *)
    }
  }

  /// What a tensor takes in memory once more while it is read: 2 where one is stored in half precision, 8 where one is in double; else 0.
  public var halfBytesPerWeight: Int {
    if files.contains(where: { $0.value.entries[$0.key]?.dtype == "F64" }) { return 8 }
    return files.contains { [.bfloat16, .float16].contains($0.value.entries[$0.key]?.type) } ? 2 : 0
  }

  /// The digest over all tensors as they are stored: the same however they are spread over files. It is computed once.
  public func digest() -> Digest { known.value { computeDigest() } }

  private let known = KnownDigest()

  private final class KnownDigest: Sendable {
    private let digest = Mutex<Digest?>(nil)

    func value(_ compute: () -> Digest) -> Digest {
      digest.withLock { digest in
        if let digest { return digest }
        let computed = compute()
        digest = computed
        return computed
      }
    }
  }

  private func computeDigest() -> Digest {
    var digest = IncrementalDigest()
    for name in files.keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      guard let file = files[name], let entry = file.entries[name] else { continue }
      file.withBytes(of: entry) {
        digest.update(name: name, type: entry.dtype, shape: entry.shape, bytes: $0)
      }
      // A model in a small storage must not be whole in memory for this.
      file.releasePages(of: name)
    }
    return digest.finish()
  }

  /// The files beside the weights that belong to the tokenizer, or say how pictures are prepared, by name.
  public static let tokenizerFileNames: Set<String> = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "generation_config.json", "chat_template.jinja",
    "preprocessor_config.json",
  ]

  /// Files of sentence-transformers beside the weights, by which vectors are made of texts.
  static let sentenceFileNames: Set<String> = [
    "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
    "config_sentence_transformers.json",
  ]

  /// The tokenizer's files that are there.
  public func tokenizerFiles() throws -> [String: Data] {
    try files(named: Checkpoint.tokenizerFileNames)
  }

  /// Those, and the ones by which vectors are made of texts: what belongs beside the same model with other weights.
  public func filesBesideWeights() throws -> [String: Data] {
    try files(named: Checkpoint.tokenizerFileNames.union(Checkpoint.sentenceFileNames))
  }

  private func files(named names: Set<String>) throws -> [String: Data] {
    var result: [String: Data] = [:]
    for name in names {
      let url = folder.appendingPathComponent(name)
      if FileManager.default.fileExists(atPath: url.path) {
        result[name] = try JSONFile.bytes(of: url)
      }
    }
    return result
  }

  /// What a folder has in place of safetensors.
  private static func noWeights(in folder: URL, _ configuration: JSONValue) -> PeatError {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    let missing =
      "'\(folder.path)' has neither model.safetensors nor model.safetensors.index.json"
    guard let found = ForeignWeights(among: files) else {
      return .inputOutput("\(missing), and no other weights either.")
    }
    let model = configuration["architectures"]?.array?.first?.string
    let isName = model?.wholeMatch(of: /[A-Za-z0-9]+/) != nil
    let classes = [
      isName ? model ?? "" : "AutoModelForCausalLM",
      files.contains("preprocessor_config.json") ? "AutoImageProcessor" : "AutoTokenizer",
    ]
    return .badData(
      "\(missing), but '\(found.file)'. \(found.advice(source: folder.path, classes: classes))")
  }

  /// The safetensors files of a folder: model.safetensors, or those that the index names.
  private static func openFiles(
    in folder: URL, _ configuration: JSONValue
  ) throws -> [String: SafeTensorsFile] {
    let single = folder.appendingPathComponent("model.safetensors")
    let index = folder.appendingPathComponent("model.safetensors.index.json")
    if FileManager.default.fileExists(atPath: single.path) {
      let file = try SafeTensorsFile(contentsOf: single)
      return Dictionary(uniqueKeysWithValues: file.entries.keys.map { ($0, file) })
    }
    guard FileManager.default.fileExists(atPath: index.path) else {
      throw noWeights(in: folder, configuration)
    }
    struct Index: Decodable {
      let files: [String: String]
      enum CodingKeys: String, CodingKey { case files = "weight_map" }
    }
    let map = try JSONFile.read(Index.self, from: index).files
    var opened: [String: SafeTensorsFile] = [:]
    var result: [String: SafeTensorsFile] = [:]
    for (tensor, name) in map {
      guard !name.contains("/"), name.hasSuffix(".safetensors") else {
        throw PeatError.badData("'\(index.path)' names the file '\(name)', which is not beside it.")
      }
      let file =
        try opened[name] ?? SafeTensorsFile(contentsOf: folder.appendingPathComponent(name))
      opened[name] = file
      guard file.entries[tensor] != nil else {
        throw PeatError.badData(
          "'\(index.path)' places '\(tensor)' in '\(name)', which has no such tensor.")
      }
      result[tensor] = file
    }
    return result
  }
}

/// Writing model folders.
public enum CheckpointWriter {
  /// Names of files this project writes into a model, emulator or adapter folder, those in `best-round` and `withheld` with those names before them: only a
  /// folder of such files is replaced.
  public static func isOurs(_ name: String) -> Bool {
    for inner in ["best-round/", "withheld/"] where name.hasPrefix(inner) {
      return [
        "adapter_model.safetensors", "adapter_config.json", "fedpeat.json", "model.safetensors",
        "lineage.json",
      ].contains(String(name.dropFirst(inner.count)))
    }
    return name == "1_Pooling" || Checkpoint.sentenceFileNames.contains(name)
      || Checkpoint.tokenizerFileNames.contains(name)
      || [
        "config.json", "model.safetensors", "emulator.json", "adapter_config.json",
        "adapter_model.safetensors", "fedpeat.json", "update.json", "update.safetensors",
        "README.md", "training_state.json", "training_state.safetensors", "run.yaml",
        "results.json", "lineage.json", "best-round", "withheld", "distillation_best.safetensors",
        "pretraining_state.json",
        "pretraining_best.safetensors",
      ].contains(name)
  }

  /// Files that say that this project wrote the folder they lie in.
  private static let marks = [
    "fedpeat.json", "emulator.json", "training_state.json", "run.yaml", "update.json",
  ]

  /// Throws where writing to `url` would destroy something: a folder that is read from, the one this runs in, a stranger's
  /// files, or a model that this project did not write. Call it before long work.
  public static func checkOutput(
    _ url: URL, inputs: [URL] = [], isAdapter: Bool = false
  ) throws {
    func place(_ url: URL) -> String { url.resolvingSymlinksInPath().standardizedFileURL.path }
    for input in inputs where place(input) == place(url) {
      throw PeatError.usage("--out is '\(input.path)', which is read from; name another folder.")
    }
    guard place(url) != place(URL(fileURLWithPath: ".")) else {
      throw PeatError.usage(
        "--out is the folder that this command runs in, which can't be replaced; name another.")
    }
    try AtomicOutput.checkReplaceable(url, replacing: isOurs)
    func has(_ name: String) -> Bool {
      FileManager.default.fileExists(atPath: url.appendingPathComponent(name).path)
    }
    if has("config.json") || has("model.safetensors") || has("adapter_model.safetensors"),
      !marks.contains(where: has)
    {
      throw PeatError.inputOutput(
        "The folder '\(url.path)' holds a model or an adapter that FedPEAT did not write. Name another folder, or "
          + "empty this one.")
    }
    // One's own model is soon named by mistake, and took long to make.
    if isAdapter, has("model.safetensors") || has("model.safetensors.index.json") {
      throw PeatError.inputOutput(
        "The folder '\(url.path)' holds a model or an emulator, and an adapter would take its place. Name another folder, or delete that one."
      )
    }
  }

  /// `fedpeat.json` of a plain checkpoint: says how it came about.
  public static func mark(_ method: String) throws -> [String: Data] {
    [
      "fedpeat.json": try JSONFile.encode(
        JSONValue.object(["formatVersion": .integer(1), "method": .string(method)]))
    ]
  }

  /// Fills `folder` with a checkpoint.
  ///
  /// - Parameters:
  ///   - tensors: weights by name.
  ///   - configuration: config.json.
  ///   - type: how each tensor is stored.
  ///   - otherFiles: the tokenizer's files, emulator.json, … by name.
  public static func fill(
    _ folder: URL, tensors: NamedTensors, raw: [String: SafeTensors.Raw] = [:],
    configuration: JSONValue,
    type: (String) -> StorageType, otherFiles: [String: Data]
  ) throws {
    try JSONFile.write(configuration, to: folder.appendingPathComponent("config.json"))
    try SafeTensors.write(
      tensors, raw: raw, to: folder.appendingPathComponent("model.safetensors"), as: type,
      metadata: ["format": "pt"])
    for (name, data) in otherFiles {
      let file = folder.appendingPathComponent(name)
      if Checkpoint.sentenceFileNames.contains(name), name.contains("/") {
        try FileManager.default.createDirectory(
          at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      }
      try AtomicOutput.write(data, to: file)
    }
  }

  /// Writes a checkpoint folder, whole or not at all.
  ///
  /// - Parameter raw: further tensors, as they are stored.
  public static func write(
    to folder: URL, tensors: NamedTensors, raw: [String: SafeTensors.Raw] = [:],
    configuration: JSONValue,
    type: (String) -> StorageType = { _ in .float32 }, otherFiles: [String: Data] = [:]
  ) throws {
    try AtomicOutput.folder(at: folder, replacing: isOurs) {
      try fill(
        $0, tensors: tensors, raw: raw, configuration: configuration, type: type,
        otherFiles: otherFiles)
    }
  }
}

extension StorageType {
  /// How a matrix that is stored so is kept in memory in as few bytes.
  fileprivate var packed: WeightStorage? {
    switch self {
    case .float32: nil
    case .float16: .float16
    case .bfloat16: .bfloat16
    }
  }
}
