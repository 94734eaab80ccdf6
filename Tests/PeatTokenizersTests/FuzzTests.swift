import Foundation
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

/// Changed files and templates end in a tokenizer or in an error: no crash, no hang, no memory without bound.
///
/// FEDPEAT_MUTATIONS says how many, where 100,000 are not enough.
@Suite("Tokenizer files, changed at random") struct FuzzTests {
  private static var count: Int {
    ProcessInfo.processInfo.environment["FEDPEAT_MUTATIONS"].flatMap { Int($0) } ?? 100_000
  }

  /// Small files with every kind of part.
  private static let files = [
    #"""
    {"truncation":{"max_length":5,"strategy":"LongestFirst","stride":1,"direction":"Right"},"padding":{"strategy":{"Fixed":8},"direction":"Left","pad_to_multiple_of":4,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},"added_tokens":[{"id":4,"content":"<s>","special":true,"lstrip":true,"rstrip":false,"normalized":false,"single_word":false},{"id":5,"content":"Mara","special":false,"normalized":true,"single_word":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Prepend","prepend":"▁"},{"type":"Lowercase"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|\\p{N}"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[4],"tokens":["<s>"]}}},"decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0},{"type":"Replace","pattern":{"String":"▁"},"content":" "}]},"model":{"type":"BPE","dropout":null,"unk_token":"?","continuing_subword_prefix":null,"end_of_word_suffix":"","fuse_unk":true,"byte_fallback":true,"ignore_merges":true,"vocab":{"?":0,"m":1,"a":2,"ma":3,"<0x0A>":6},"merges":["m a"]}}
    """#,
    #"""
    {"added_tokens":[{"id":2,"content":"[CLS]","special":true},{"id":3,"content":"[SEP]","special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"m":4,"##a":5,"mar":6,"中":7}}}
    """#,
    #"""
    {"added_tokens":[{"id":1,"content":"</s>","special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"MAAAAAAEAAAAAAAAAAAAAAAAAABhAQAAAAAAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABhAGIA"},{"type":"Nmt"},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"StripAccents"},{"type":"Replace","pattern":{"String":"a"},"content":"b"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},{"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"Contiguous"}]},"post_processor":{"type":"RobertaProcessing","sep":["</s>",1],"cls":["</s>",1],"trim_offsets":true,"add_prefix_space":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"},"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0],["</s>",0],["▁",-2.5],["m",-3],["a",-3.25],["▁ma",-4],["<0x41>",-9]]}}
    """#,
    #"""
    {"added_tokens":[],"normalizer":{"type":"NFD"},"pre_tokenizer":{"type":"CharDelimiterSplit","delimiter":" "},"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"}]},"decoder":{"type":"BPEDecoder","suffix":"</w>"},"model":{"type":"BPE","unk_token":null,"continuing_subword_prefix":"##","end_of_word_suffix":"</w>","vocab":{"m":0,"##a</w>":1,"ma</w>":2,"##a":3},"merges":[["m","##a</w>"]]}}
    """#,
  ]
  private static let words = [
    "BPE", "WordPiece", "Unigram", "WordLevel", "Sequence", "NFC", "NFKD", "Precompiled", "Replace",
    "Metaspace", "ByteLevel", "Split", "Whitespace", "Removed", "MergedWithNext", "first", "never",
    "BatchLongest", "OnlySecond", "Left", "", "a", "▁", "e\u{301}", "ma", "[UNK]", "\u{10FFFF}",
    "<0x41>",
    "(a", "[^\\s]", ".*", "$", "\\", "QUFBQQ==", "AAAA",
  ]
  private static let text = "Mara didn't\n see <s> 12  é 中 👩‍👩‍👧 [CLS]\u{0}\u{301}\u{FFFD} mama"

  @Test(.tags(.long), .onlyWithAll) func `end in a tokenizer or an error`() throws {
    var random = SeededRandom(seed: 29)
    let trees = try Self.files.map { file in
      var parser = JSONParser(Array(file.utf8)[...])
      return try parser.parseWhole()
    }
    for file in Self.files { _ = try Tokenizer(json: Data(file.utf8)) }
    var readCount = 0
    var slowest = Duration.zero
    for number in 0..<Self.count {
      let place = random.integer(below: trees.count)
      let bytes =
        number % 2 == 0
        ? Self.changed(Array(Self.files[place].utf8), using: &random)
        : Self.written(Self.changed(trees[place], trees, using: &random))
      let start = ContinuousClock.now
      do {
        let tokenizer = try Tokenizer(json: Data(bytes))
        readCount += 1
        try Self.use(tokenizer)
      } catch is PeatError {}
      let time = ContinuousClock.now - start
      slowest = max(slowest, time)
      if time > .seconds(5) {
        Issue.record("\(time): \(String(decoding: bytes, as: UTF8.self))")
      }
    }
    print(
      "\(Self.count) changed files: \(readCount) read, the slowest took \(slowest), \(Self.peakMemory) at most"
    )
    #expect(readCount > Self.count / 50 && readCount < Self.count)
  }

  @Test(.tags(.long), .onlyWithAll) func `end in a text or an error, as chat templates`() throws {
    var random = SeededRandom(seed: 30)
    let data = try JSONSerialization.jsonObject(with: Golden.data("chat.json")) as? [String: Any]
    let styles = (data?["templates"] as? [String: String])?.sorted { $0.key < $1.key }.map(\.value)
    let parts = (data?["parts"] as? [[Any]])?.compactMap { $0.first as? String }
    let sources = ((styles ?? []) + (parts ?? [])).map { Array($0.utf8) }
    #expect(sources.count > 50)
    let messages: [ChatMessage] = [.system("s"), .user("é 中 <think>a</think>"), .assistant("b")]
    var textCount = 0
    for _ in 0..<Self.count / 2 {
      var bytes = Self.changed(sources[random.integer(below: sources.count)], using: &random)
      // A stretch of another template in the middle of this one.
      if random.integer(below: 3) == 0, !bytes.isEmpty {
        let other = sources[random.integer(below: sources.count)]
        let start = random.integer(below: other.count)
        let stretch = other[start..<min(other.count, start + 1 + random.integer(below: 40))]
        bytes.insert(contentsOf: stretch, at: random.integer(below: bytes.count))
      }
      let source = String(decoding: bytes, as: UTF8.self)
      let start = ContinuousClock.now
      if let text = try? ChatTemplate(source, tokens: ["bos_token": "<s>", "eos_token": "</s>"])
        .text(messages, addGenerationPrompt: true)
      {
        textCount += 1
        #expect(text.utf8.count < 1 << 27)
      }
      if ContinuousClock.now - start > .seconds(20) { Issue.record("slow: \(source)") }
    }
    print("\(Self.count / 2) changed templates: \(textCount) gave a text")
    #expect(textCount > 0 && textCount < Self.count / 2)
  }

  private static func use(_ tokenizer: Tokenizer) throws {
    let numbers = try tokenizer.encode(text, addSpecialTokens: true)
    #expect(numbers.allSatisfy { (0..<Int32(tokenizer.vocabularySize)).contains($0) })
    _ = tokenizer.decode(numbers, skipSpecialTokens: true)
    for encoding in try tokenizer.encodeBatch(
      [text, "a"], pairedWith: ["b", text], addSpecialTokens: true)
    {
      #expect(encoding.typeNumbers.count == encoding.count)
    }
  }

  private static var peakMemory: String {
    let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status?.split(separator: "\n").first { $0.hasPrefix("VmHWM") }
    return line.map { $0.split(whereSeparator: \.isWhitespace).dropFirst().joined(separator: " ") }
      ?? "?"
  }

  // MARK: Changes

  private static func changed(_ whole: [UInt8], using random: inout SeededRandom) -> [UInt8] {
    let signs = Array(#"{}[]",:0123456789-eE.\ntrufalse <>%()|'"#.utf8)
    var bytes = whole
    for _ in 0...random.integer(below: 3) where !bytes.isEmpty {
      let place = random.integer(below: bytes.count)
      let end = min(bytes.count, place + 1 + random.integer(below: 12))
      switch random.integer(below: 5) {
      case 0: bytes[place] = signs[random.integer(below: signs.count)]
      case 1: bytes[place] = UInt8(random.integer(below: 256))
      case 2: bytes.removeSubrange(place..<end)
      case 3: bytes.insert(signs[random.integer(below: signs.count)], at: place)
      default: bytes.insert(contentsOf: bytes[place..<end], at: random.integer(below: bytes.count))
      }
    }
    return bytes
  }

  /// A value with one place in it changed.
  private static func changed(
    _ json: ByteJSON, _ others: [ByteJSON], using random: inout SeededRandom
  ) -> ByteJSON {
    let goesOn = random.integer(below: 8) > 0
    switch json {
    case .object(var entries) where !entries.isEmpty && goesOn:
      let place = random.integer(below: entries.count)
      switch random.integer(below: 12) {
      case 0: entries.remove(at: place)
      case 1: entries[place].key = ByteString(words[random.integer(below: words.count)])
      default: entries[place].value = changed(entries[place].value, others, using: &random)
      }
      return .object(entries)
    case .array(var elements) where !elements.isEmpty && goesOn:
      let place = random.integer(below: elements.count)
      switch random.integer(below: 8) {
      case 0: elements.remove(at: place)
      case 1: elements.append(elements[place])
      default: elements[place] = changed(elements[place], others, using: &random)
      }
      return .array(elements)
    case .string where goesOn:
      return .string(ByteString(words[random.integer(below: words.count)]))
    default:
      let numbers = ["-1", "0", "1", "2", "7", "4194303", "99999999999", "1e400", "0.5", "-3e2"]
      switch random.integer(below: 8) {
      case 0: return .null
      case 1: return .bool(random.integer(below: 2) == 0)
      case 2, 3: return .number(numbers[random.integer(below: numbers.count)])
      case 4: return .string(ByteString(words[random.integer(below: words.count)]))
      case 5: return .array([json, json])
      case 6: return .object([])
      default: return part(of: others[random.integer(below: others.count)], using: &random)
      }
    }
  }

  /// Some part of a value.
  private static func part(of json: ByteJSON, using random: inout SeededRandom) -> ByteJSON {
    let isDeepEnough = random.integer(below: 4) == 0
    switch json {
    case .object(let entries) where !entries.isEmpty && !isDeepEnough:
      return part(of: entries[random.integer(below: entries.count)].value, using: &random)
    case .array(let elements) where !elements.isEmpty && !isDeepEnough:
      return part(of: elements[random.integer(below: elements.count)], using: &random)
    default: return json
    }
  }

  private static func written(_ json: ByteJSON) -> [UInt8] {
    func quoted(_ text: ByteString) -> [UInt8] {
      var result: [UInt8] = [0x22]
      for byte in text.bytes {
        if byte < 0x20 {
          result +=
            Array("\\u00".utf8) + Array((byte < 16 ? "0" : "").utf8)
            + Array(String(byte, radix: 16).utf8)
        } else {
          if byte == 0x22 || byte == 0x5C { result.append(0x5C) }
          result.append(byte)
        }
      }
      return result + [0x22]
    }
    switch json {
    case .null: return Array("null".utf8)
    case .bool(let value): return Array((value ? "true" : "false").utf8)
    case .number(let text): return Array(text.utf8)
    case .string(let text): return quoted(text)
    case .array(let elements):
      return [0x5B] + Array(elements.map(written).joined(separator: [0x2C])) + [0x5D]
    case .object(let entries):
      let parts = entries.map { quoted($0.key) + [0x3A] + written($0.value) }
      return [0x7B] + Array(parts.joined(separator: [0x2C])) + [0x7D]
    }
  }
}
