import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension ConfigurationFile {
  /// How a model of the Llama kind turns queries and keys: `rope_parameters`, or in older files `rope_theta` with `rope_scaling`.
  ///
  /// Kinds: `default`; `linear` (positions divided by a factor); `dynamic`, which is the same as `default` up to the context that config.json
  /// states; `llama3`; `yarn` (Peng et al. 2023, <https://arxiv.org/abs/2309.00071>). Mirrors transformers `modeling_rope_utils.py`.
  ///
  /// - Parameters:
  ///   - headWidth: D.
  ///   - share: the share of a head's values that turn; `nil`: a family of which all do.
  ///   - theta: θ, where nothing is said.
  ///   - contextLength: the longest sequence.
  /// - Throws: `badData` where the file asks for something else, or for two things at once.
  func rotary(
    headWidth: Int, share: Double? = nil, theta: Double = 10000, contextLength: Int
  ) throws -> RotaryEmbedding {
    // Tables of angles are made before sizes are checked as a whole.
    guard headWidth < 1 << 16 else {
      throw PeatError.badData("'\(name)': heads of \(headWidth) values are too wide.")
    }
    let settings = try rotaryTable()
    let theta = try settings?.optionalNumber("rope_theta") ?? optionalNumber("rope_theta") ?? theta
    guard theta > 1 else {
      throw PeatError.badData("'\(name)': rope_theta \(theta) must be above 1.")
    }
    let asked = try settings?.optionalNumber("partial_rotary_factor")
    let stated = try optionalNumber("partial_rotary_factor")
    if let other = asked ?? stated, share == nil, other != 1 {
      throw (asked == nil ? self : settings ?? self)
        .unsupported("partial_rotary_factor", .number(other))
    }
    let share = asked ?? stated ?? share ?? 1
    guard (0...1).contains(share) else {
      throw PeatError.badData(
        "'\(name)': the share of a head's values that turn is \(share); expected a number from 0 to 1."
      )
    }
    let width = Int(Double(headWidth) * share)
    // Of an odd number the last pair takes the next value too, as transformers has it.
    guard width > 0, width <= headWidth, (width + 1) / 2 * 2 <= headWidth else {
      throw PeatError.badData(
        "'\(name)': a rotary embedding turns pairs of values, so an even number of a head's \(headWidth); found \(width)."
      )
    }
    let plain = RotaryEmbedding.frequencies(width: width, theta: theta)
    func embedding(_ frequencies: [Double], scale: Double = 1) -> RotaryEmbedding {
      RotaryEmbedding(
        headWidth: headWidth, frequencies: frequencies.map { Float($0) }, scale: Float(scale))
    }
    guard let settings else { return embedding(plain) }
    let kind = try settings.rotaryKind
    func original() throws -> Double {
      // The file's own counts before that of the table, as Phi-3's files are read.
      Double(
        try optionalSize(Self.originalKey) ?? settings.optionalSize(Self.originalKey)
          ?? contextLength)
    }
    switch kind {
    case "default", "dynamic": return embedding(plain)
    case "linear":
      let factor = try settings.positive("factor")
      return embedding(plain.map { $0 / factor })
    case "llama3":
      return embedding(try settings.llama3(plain, context: original()))
    case "yarn":
      guard width % 2 == 0 else {
        throw PeatError.badData(
          "'\(name)': yarn turns an even number of a head's \(headWidth) values; found \(width).")
      }
      let yarn = try settings.yarn(
        plain, width: width, theta: theta, original: original(), contextLength: contextLength)
      return embedding(yarn.frequencies, scale: yarn.scale)
    default:
      throw settings.unsupported("rope_type", .string(kind))
    }
  }

  private static let originalKey = "original_max_position_embeddings"

  /// The table that says how positions are turned, by its newer or its older name.
  private func rotaryTable() throws -> ConfigurationFile? {
    let tables = try ["rope_parameters", "rope_scaling"].compactMap { key in
      try optionalTable(key).flatMap { $0.json.object?.isEmpty == false ? $0 : nil }
    }
    for table in tables {
      for kind in [LayerType.full, LayerType.sliding] where table.has(kind) {
        throw table.unsupported(kind, table.json[kind] ?? .null)
      }
    }
    guard tables.count == 2 else { return tables.first }
    let contents = try tables.map { table in
      var values = (table.json.object ?? [:]).compactMapValues { value -> JSONValue? in
        value.isNull ? nil : value.number.map(JSONValue.number) ?? value
      }
      values["type"] = nil
      values["rope_type"] = .string(try table.rotaryKind)
      if values["rope_theta"] == nil, let theta = try optionalNumber("rope_theta") {
        values["rope_theta"] = .number(theta)
      }
      return values
    }
    guard contents[0] == contents[1] else {
      let keys = Set(contents[0].keys).union(contents[1].keys)
        .filter { contents[0][$0] != contents[1][$0] }.sorted()
      throw PeatError.badData(
        "'\(name)' has rope_parameters and rope_scaling, which differ in \(keys.joined(separator: ", ")). Leave one of them out; rope_parameters is the newer name."
      )
    }
    return tables[0]
  }

  /// What kind of rotation a table asks for, by the key's newer or its older name.
  private var rotaryKind: String {
    get throws { try optionalString("rope_type") ?? optionalString("type") ?? "default" }
  }

  /// Slow pairs turn slower by a factor, fast ones as before, those between in between.
  ///
  /// Source: transformers `_compute_llama3_parameters`; Grattafiori et al. 2024, <https://arxiv.org/abs/2407.21783>.
  private func llama3(_ frequencies: [Double], context: Double) throws -> [Double] {
    let factor = try positive("factor")
    let (low, high) = (try positive("low_freq_factor"), try positive("high_freq_factor"))
    guard high > low else {
      throw PeatError.badData(
        "'\(name)': high_freq_factor \(high) must be above low_freq_factor \(low).")
    }
    return frequencies.map { frequency in
      let length = 2 * Double.pi / frequency
      if length < context / high { return frequency }
      if length > context / low { return frequency / factor }
      let smooth = (context / length - low) / (high - low)
      return (1 - smooth) * frequency / factor + smooth * frequency
    }
  }

  /// As `llama3`, with a ramp over the pairs, and larger values.
  ///
  /// Source: transformers `_compute_yarn_parameters`.
  private func yarn(
    _ frequencies: [Double], width: Int, theta: Double, original: Double, contextLength: Int
  ) throws -> (frequencies: [Double], scale: Double) {
    let factor = try optionalPositive("factor") ?? Double(contextLength) / original
    func growth(_ weight: Double) -> Double { factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1 }
    let scale: Double
    if let stated = try optionalPositive("attention_factor") {
      scale = stated
    } else if let own = try optionalNumber("mscale"), own != 0,
      let all = try optionalNumber("mscale_all_dim"), all != 0, growth(all) != 0
    {
      // 0 is as if it were not there.
      scale = growth(own) / growth(all)
    } else {
      scale = growth(1)
    }
    func pair(turning turns: Double) -> Double {
      Double(width) * log(original / (turns * 2 * Double.pi)) / (2 * log(theta))
    }
    var first = pair(turning: try orUsual("beta_fast", 32))
    var last = pair(turning: try orUsual("beta_slow", 1))
    if try flag("truncate", default: true) { (first, last) = (floor(first), ceil(last)) }
    first = max(first, 0)
    last = min(last, Double(width - 1))
    if first == last { last += 0.001 }
    let result = frequencies.enumerated().map { number, frequency in
      let ramp = min(max((Double(number) - first) / (last - first), 0), 1)
      return frequency / factor * ramp + frequency * (1 - ramp)
    }
    return (result, scale)
  }

  /// A number above 0; what is usual where there is none, or 0.
  private func orUsual(_ key: String, _ usual: Double) throws -> Double {
    try optionalNumber(key) == 0 ? usual : optionalPositive(key) ?? usual
  }

  private func positive(_ key: String) throws -> Double {
    guard let number = try optionalPositive(key) else { throw missing(key) }
    return number
  }
}
