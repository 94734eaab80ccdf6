import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Reading tokenizer.json") struct TokenizerFileTests {
  /// A small tokenizer with one part replaced.
  private func json(_ replaced: String = "", with replacement: String = "") -> Data {
    let whole = """
      {"added_tokens": [{"id": 3, "content": "<s>", "special": true}],
       "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
       "model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}
      """
    precondition(replaced.isEmpty || whole.contains(replaced), "the text to replace is there")
    return Data(
      (replaced.isEmpty ? whole : whole.replacingOccurrences(of: replaced, with: replacement)).utf8)
  }

  private func message(_ data: Data, configuration: String? = nil) -> String {
    do {
      _ = try Tokenizer(json: data, configuration: configuration.map { Data($0.utf8) })
      return "no error"
    } catch let error as PeatError {
      #expect(error.code == .badData)
      return error.message
    } catch {
      return "another error: \(error)"
    }
  }

  @Test func `reads the small one`() throws {
    let tokenizer = try Tokenizer(json: json())
    #expect(try tokenizer.encode("abba<s>ab", addSpecialTokens: true) == [2, 1, 0, 3, 2])
    #expect(tokenizer.decode([2, 1, 3], skipSpecialTokens: false) == "ab b <s>")
    #expect(tokenizer.vocabularySize == 4)
    #expect(tokenizer.number(of: "<s>") == 3)
    #expect(tokenizer.token(2) == "ab")
    #expect(tokenizer.token(4) == nil)
    #expect(tokenizer.beginToken == nil)
    #expect(tokenizer.sourceFiles == ["tokenizer.json": json()])
  }

  @Test func `reads merges of both spellings`() throws {
    let tokenizer = try Tokenizer(json: json(#"[["a", "b"]]"#, with: #"["a b"]"#))
    #expect(try tokenizer.encode("ab", addSpecialTokens: false) == [2])
  }

  @Test(arguments: [
    (
      #""normalizer": null"#, #""normalizer": {"type": "Cyrillic"}"#,
      "'normalizer' is the normalizer 'Cyrillic', which is not supported. Supported: Sequence"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nft"}]}"#,
      "'normalizer.normalizers[1]' is the normalizer 'Nft'"
    ),
    (
      #""pre_tokenizer": null"#, #""pre_tokenizer": {"type": "UnicodeScripts"}"#,
      "the pre-tokenizer 'UnicodeScripts'"
    ),
    (
      #""post_processor": null"#, #""post_processor": {"type": "Roberta"}"#,
      "the post-processor 'Roberta'"
    ),
    (#""decoder": null"#, #""decoder": {"type": "CTC"}"#, "the decoder 'CTC'"),
    (
      #""BPE""#, #""WordPieces""#,
      "the model 'WordPieces', which is not supported. Supported: BPE, WordPiece, Unigram, WordLevel."
    ),
    (
      #""BPE""#, #""WordPiece""#,
      "'model' has the unknown token '[UNK]' ('unk_token'), which 'vocab' does not have"
    ),
    (#""BPE""#, #""WordLevel""#, "'model' has the unknown token '<unk>'"),
    (#""BPE""#, #""Unigram""#, "'model.vocab' is an object, expected an array"),
    (
      #""BPE""#, #""Unigram", "unk_id": 1, "vocab": [["a", -1]], "x": 0"#,
      "the key \"vocab\" stands twice"
    ),
    (#""BPE""#, "7", "'model.type' is a number, expected a string"),
    (#""a": 0"#, #""a": -1"#, "gives the token 'a' the number -1"),
    (#""a": 0"#, #""a": 99999999999"#, "the number 99999999999"),
    (#""a": 0"#, #""a": 1e400"#, "expected an integer"),
    (#""a": 0"#, #""a": 99999999999999999999999"#, "expected an integer"),
    (#""a": 0"#, #""a": 0.5"#, "expected an integer"),
    (#""a": 0"#, #""a": 1"#, "the number 1 to two tokens"),
    (#""a": 0"#, #""a": 0, "a": 5"#, "the key \"a\" stands twice"),
    (#"["a", "b"]"#, #"["a", "c"]"#, "has no 'c'"),
    (#"["a", "b"]"#, #"["b", "a"]"#, "has no 'ba'"),
    (#"["a", "b"]"#, #""a b c""#, "expected \"a b\""),
    (#"["a", "b"]"#, #"["a"]"#, "expected \"a b\""),
    (#"["a", "b"]"#, "5", "expected \"a b\""),
    (#""unk_token": null"#, #""unk_token": "<unk>""#, "'model.unk_token' is '<unk>', which"),
    (#""unk_token": null"#, #""dropout": 0.1"#, "'model.dropout' is set"),
    (
      #""unk_token": null"#, #""continuing_subword_prefix": "@@""#,
      "the second is shorter than 'continuing_subword_prefix'"
    ),
    (
      #""post_processor": null"#,
      #""post_processor": {"type": "BertProcessing", "sep": ["x", 9], "cls": ["<s>", 3]}"#,
      "adds the token 9, which does not exist"
    ),
    (
      #""post_processor": null"#,
      #""post_processor": {"type": "RobertaProcessing", "sep": ["x"], "cls": ["<s>", 3]}"#,
      "'post_processor.sep' is no pair"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": {"type": "Precompiled", "precompiled_charsmap": "%%"}"#,
      "'normalizer.precompiled_charsmap' is not base64"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAgAAAAA"}"#,
      "do not hold the trie"
    ),
    (
      #""pre_tokenizer": null"#,
      #""pre_tokenizer": {"type": "Metaspace", "add_prefix_space": false, "prepend_scheme": "always"}"#,
      "is 'always', but 'add_prefix_space' is false"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": null, "truncation": {"max_length": -1}"#, "'truncation.max_length' is -1"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": null, "truncation": {"max_length": 5, "strategy": "Random"}"#,
      "the strategy 'Random', which is not supported. Supported: LongestFirst, OnlyFirst, OnlySecond"
    ),
    (
      #""normalizer": null"#,
      #""normalizer": null, "padding": {"strategy": "Longest"}"#, "the padding strategy 'Longest'"
    ),
    (#""id": 3"#, #""id": -3"#, "'added_tokens[0].id' is -3"),
    (#""id": 3"#, #""id": 2"#, "gives '<s>' the number 2 of 'ab'"),
    (#""<s>""#, #""ab""#, "gives 'ab' the number 3, but it has 2 already"),
    (
      #""special": true"#, #""special": 1"#,
      "'added_tokens[0].special' is a number, expected true or false"
    ),
    (
      #""post_processor": null"#,
      #""post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]}"#,
      "names 'x'"
    ),
    (
      #""post_processor": null"#,
      #""post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"x": {"ids": [9]}}}"#,
      "adds the token 9, which does not exist"
    ),
    (
      #""pre_tokenizer": null"#,
      #""pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}"#,
      "'pre_tokenizer.pattern.Regex' is not a regular expression"
    ),
    (
      #""pre_tokenizer": null"#,
      #""pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"}"#,
      "is empty"
    ),
    (
      #""pre_tokenizer": null"#,
      #""pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Joined"}"#,
      "the behaviour 'Joined'"
    ),
    (
      #""pre_tokenizer": null"#, #""pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}"#,
      "has 2 characters, expected one"
    ),
  ])
  func `names what is wrong and where`(
    _ replaced: String, _ replacement: String, _ expected: String
  ) {
    let message = message(json(replaced, with: replacement))
    #expect(message.contains("tokenizer.json") && message.contains(expected), "\(message)")
  }

  @Test func `reads models of whole words, and unigrams`() throws {
    let words = try Tokenizer(
      json: Data(
        #"""
        {"pre_tokenizer": {"type": "WhitespaceSplit"},
         "model": {"type": "WordLevel", "vocab": {"the": 0, "mill": 1, "?": 2}, "unk_token": "?"}}
        """#.utf8))
    #expect(try words.encode("the old mill", addSpecialTokens: false) == [0, 2, 1])
    // Scores by hand: "ab" -1.5 beats "a", "b" -2; x is unknown.
    let unigrams = try Tokenizer(
      json: Data(
        #"""
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["a", -1], ["b", -1], ["ab", -1.5], ["ba", -3]]}}
        """#.utf8))
    #expect(try unigrams.encode("abaxxb", addSpecialTokens: false) == [3, 1, 0, 2])
  }

  @Test(arguments: [
    (#"[["a", 1e400]], "unk_id": 0"#, "has at 0 no token with its score"),
    (#"[["a", "b"]], "unk_id": 0"#, "has at 0 no token with its score"),
    (#"[["a", 0]], "unk_id": 1"#, "'model.unk_id' is 1, expected 0 to 0"),
    (#"[["a", 0]]"#, "has no 'unk_id'"), (#"[], "unk_id": 0"#, "is empty"),
    (#"[["a", 0], ["a", 1]], "unk_id": 0"#, "two numbers, 0 and 1"),
  ])
  func `names what is wrong in a unigram model`(_ vocabulary: String, _ expected: String) {
    let message = message(
      Data(#"{"model": {"type": "Unigram", "vocab": \#(vocabulary)}}"#.utf8))
    #expect(message.contains(expected), "\(message)")
  }

  @Test(arguments: ["normalizer", "decoder"]) func `bounds what a match is replaced by`(
    _ key: String
  ) {
    func message(_ length: Int) -> String {
      let content = String(repeating: "x", count: length)
      let part = #"{"type": "Replace", "pattern": {"String": "a"}, "content": "\#(content)"}"#
      return self.message(json("\"\(key)\": null", with: "\"\(key)\": \(part)"))
    }
    #expect(message(4096) == "no error")
    #expect(message(4097).contains("'\(key).content' takes 4097 bytes, expected at most 4096"))
  }

  @Test func `refuses what is no JSON, or no object`() {
    #expect(message(Data()).contains("the file is empty"))
    #expect(message(Data("[]".utf8)).contains("is an array, expected an object"))
    #expect(message(Data("{}".utf8)).contains("has no 'model'"))
    #expect(message(Data([0xFF, 0xFE, 0])).contains("not UTF-8"))
    #expect(
      message(Data("{\"a\": \"".utf8) + [0xC3, 0x28] + Data("\"}".utf8)).contains("not UTF-8"))
    #expect(
      message(Data(String(repeating: "[", count: 100_000).utf8)).contains("nested more than"))
    #expect(message(Data(#"{"a": "\ud800"}"#.utf8)).contains("surrogate"))
  }

  @Test func `refuses every truncation`() {
    let whole = json()
    for count in 0..<whole.count {
      #expect(message(whole.prefix(count)).contains("tokenizer.json"))
    }
  }

  @Test func `takes begin and end tokens from the configuration, as string or object`() throws {
    let configuration = #"{"bos_token": "<s>", "eos_token": {"content": "b", "special": true}}"#
    let tokenizer = try Tokenizer(json: json(), configuration: Data(configuration.utf8))
    #expect(tokenizer.beginToken == 3)
    #expect(tokenizer.endToken == 1)
    #expect(
      message(json(), configuration: #"{"bos_token": "<x>"}"#).contains("'bos_token' is '<x>'"))
    #expect(message(json(), configuration: #"{"bos_token": 1}"#).contains("expected a string"))
  }

  @Test func `takes begin and end tokens from the template where nothing else names them`() throws {
    let template = """
      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}, \
      {"SpecialToken": {"id": "y"}}], "special_tokens": {"x": {"ids": [3]}, "y": {"ids": [0]}}}
      """
    let tokenizer = try Tokenizer(
      json: json(#""post_processor": null"#, with: "\"post_processor\": \(template)"))
    #expect(tokenizer.beginToken == 3)
    #expect(tokenizer.endToken == 0)
    #expect(try tokenizer.encode("b", addSpecialTokens: true) == [3, 1, 0])
    #expect(try tokenizer.encode("b", addSpecialTokens: false) == [1])
  }

  @Test func `keeps canonically equivalent tokens apart`() throws {
    let vocabulary =
      "\"\u{E9}\": 0, \"e\": 1, \"\u{301}\": 2, \"e\u{301}\": 3, \"\u{212B}\": 4, \"\u{C5}\": 5"
    let tokenizer = try Tokenizer(
      json: Data("{\"model\": {\"vocab\": {\(vocabulary)}, \"merges\": [\"e \u{301}\"]}}".utf8))
    #expect(
      try tokenizer.encode("\u{E9}e\u{301}\u{212B}\u{C5}", addSpecialTokens: false) == [0, 3, 4, 5])
    #expect(tokenizer.decode([3], skipSpecialTokens: false).bytes == [0x65, 0xCC, 0x81])
    #expect(tokenizer.decode([0], skipSpecialTokens: false).bytes == [0xC3, 0xA9])
    #expect(tokenizer.number(of: "\u{E9}") == 0)
    #expect(tokenizer.number(of: "e\u{301}") == 3)
  }

  @Test func `says which file is missing`() throws {
    let error = #expect(throws: PeatError.self) {
      _ = try Tokenizer(folder: Golden.folder.appendingPathComponent("nowhere"))
    }
    #expect(error?.code == .inputOutput)
    #expect(error?.message.contains("no tokenizer.json") == true)
  }

  @Test(arguments: Golden.names) func `survives random changes of a file`(_ name: String) throws {
    var random = SeededRandom(seed: 11, name)
    let whole = [UInt8](try Golden.data("\(name)/tokenizer.json"))
    let signs = Array(#"{}[]",:0123456789-eE.\ntrufalse <>"#.utf8)
    var readCount = 0
    for _ in 0..<400 {
      var bytes = whole
      for _ in 0...random.integer(below: 3) {
        let place = random.integer(below: bytes.count)
        switch random.integer(below: 4) {
        case 0: bytes[place] = signs[random.integer(below: signs.count)]
        case 1: bytes[place] = UInt8(random.integer(below: 256))
        case 2:
          bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.integer(below: 12)))
        default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 20)], at: place)
        }
      }
      do {
        let tokenizer = try Tokenizer(json: Data(bytes))
        readCount += 1
        let numbers = try tokenizer.encode("Mara didn't\n see <s> 12 é 中 👩‍👩‍👧", addSpecialTokens: true)
        #expect(numbers.allSatisfy { (0..<Int32(tokenizer.vocabularySize)).contains($0) })
        _ = tokenizer.decode(numbers, skipSpecialTokens: true)
      } catch is PeatError {
        continue
      }
    }
    #expect(readCount < 400)
  }
}
