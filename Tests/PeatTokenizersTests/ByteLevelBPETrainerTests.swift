import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("ByteLevelBPETrainer") struct ByteLevelBPETrainerTests {
  @Test func `merges the most frequent pair first, of equals the smaller`() throws {
    // ab 3 times, bc 2 times; then (ab, c) twice.
    let trainer = ByteLevelBPETrainer(
      vocabularySize: 259, specialTokens: ["<s>"], beginToken: "<s>", endToken: nil)
    let tokenizer = try trainer.train(on: ["abc", "abc", "ab"])
    #expect(tokenizer.vocabularySize == 259)
    #expect(tokenizer.token(0) == "<s>")
    #expect(tokenizer.token(257) == "ab")
    #expect(tokenizer.token(258) == "abc")
    #expect(try tokenizer.encode("abcab", addSpecialTokens: true) == [0, 258, 257])
    #expect(tokenizer.beginToken == 0)
    #expect(tokenizer.endToken == nil)
  }

  @Test func `learns the vocabulary that tokenizers learns`() throws {
    struct Model: Decodable {
      let vocab: [String: Int32]
      let merges: [[String]]
    }
    let golden = try JSONDecoder().decode(Model.self, from: Golden.data("trainer-vocabulary.json"))
    let corpus = String(decoding: try Golden.data("trainer-corpus.txt"), as: UTF8.self)
    let trainer = ByteLevelBPETrainer(
      vocabularySize: 600, minimumFrequency: 0, specialTokens: ["<|end|>"], beginToken: nil,
      endToken: "<|end|>")
    let tokenizer = try trainer.train(on: [corpus])
    #expect(tokenizer.vocabularySize == golden.vocab.count)
    for (token, number) in golden.vocab { #expect(tokenizer.token(number)?.bytes == token.bytes) }
    struct File: Decodable { let model: Model }
    let file = try JSONDecoder().decode(
      File.self, from: #require(tokenizer.sourceFiles["tokenizer.json"]))
    #expect(file.model.merges == golden.merges)
    // The golden tokenizer has the same model, so it gives the same numbers.
    let other = try Golden.tokenizer("gpt2-style")
    #expect(
      try tokenizer.encode(corpus, addSpecialTokens: false)
        == other.encode(corpus, addSpecialTokens: false))
  }

  @Test func `gives the same files for the same text, and reads them back`() throws {
    let corpus = String(decoding: try Golden.data("trainer-corpus.txt"), as: UTF8.self)
    let trainer = ByteLevelBPETrainer(vocabularySize: 400)
    let first = try trainer.train(on: [corpus])
    let second = try trainer.train(on: [corpus])
    #expect(first.sourceFiles == second.sourceFiles)
    #expect(Set(first.sourceFiles.keys) == ["tokenizer.json", "tokenizer_config.json"])
    let read = try Tokenizer(files: first.sourceFiles)
    #expect(
      try read.encode(corpus, addSpecialTokens: true)
        == first.encode(corpus, addSpecialTokens: true))
    #expect(read.beginToken == 0 && read.endToken == 0)
    #expect(try read.encode("x<|endoftext|>", addSpecialTokens: true).filter { $0 == 0 }.count == 2)
  }

  @Test func `writes special tokens of any kind`() throws {
    let special = ["<\"quoted\\\">", "tab\there", "\u{1}bell", "e\u{301}nd"]
    let trainer = ByteLevelBPETrainer(
      vocabularySize: 300, specialTokens: special, beginToken: special[0], endToken: special[3])
    let tokenizer = try trainer.train(on: ["some text, some text"])
    for (number, token) in special.enumerated() {
      #expect(try tokenizer.encode(token, addSpecialTokens: false) == [Int32(number)])
    }
    #expect(tokenizer.beginToken == 0 && tokenizer.endToken == 3)
  }

  @Test func `stops where no pair is frequent enough`() throws {
    let tokenizer = try ByteLevelBPETrainer(vocabularySize: 4_000).train(on: ["abab", "", "c"])
    #expect(tokenizer.vocabularySize == 258)
    #expect(try ByteLevelBPETrainer(vocabularySize: 300).train(on: []).vocabularySize == 257)
  }

  @Test(arguments: [
    ByteLevelBPETrainer(vocabularySize: 256),
    ByteLevelBPETrainer(vocabularySize: -1),
    ByteLevelBPETrainer(
      vocabularySize: 300, specialTokens: ["<s>", "<s>"], beginToken: nil, endToken: nil),
    ByteLevelBPETrainer(vocabularySize: 300, specialTokens: [""], beginToken: nil, endToken: nil),
    ByteLevelBPETrainer(vocabularySize: 300, specialTokens: ["a"], beginToken: nil, endToken: nil),
    ByteLevelBPETrainer(
      vocabularySize: 300, specialTokens: ["<s>"], beginToken: "<x>", endToken: nil),
  ])
  func `refuses what can't be made`(_ trainer: ByteLevelBPETrainer) {
    let error = #expect(throws: PeatError.self) { _ = try trainer.train(on: ["text"]) }
    #expect(error?.code == .usage)
  }

  @Test func `learns 4096 tokens from two megabytes in a few seconds`() throws {
    // Words with a frequency that falls as in language: syllables, some far more often than others.
    var random = SeededRandom(seed: 6)
    let syllables = (0..<400).map { _ in
      String(
        (0..<2 + random.integer(below: 2)).map { _ in
          Character(Unicode.Scalar(UInt8(97 + random.integer(below: 26))))
        })
    }
    let words = (0..<20_000).map { _ in
      (0...random.integer(below: 4)).map { _ in syllables[random.integer(below: 400)] }.joined()
    }
    var text = ""
    while text.utf8.count < 2_000_000 {
      let share = random.uniform()
      text +=
        words[Int(share * share * share * 20_000)] + (random.integer(below: 12) == 0 ? ".\n" : " ")
    }
    let start = ContinuousClock.now
    let tokenizer = try ByteLevelBPETrainer(vocabularySize: 4_096).train(on: [text])
    let time = ContinuousClock.now - start
    print("4096 tokens from 2 MB in \(time)")
    #expect(tokenizer.vocabularySize == 4_096)
    #expect(time < .seconds(20))
  }
}
