import Foundation
import TestSupport
import Testing

/// What a user mistypes ends with 64 and names what was meant.
@Suite("Wrong usage") struct UsageTests {
  struct Mistake: Sendable, CustomTestStringConvertible {
    let arguments: [String]
    let says: [String]
    var testDescription: String { arguments.joined(separator: " ") }

    init(_ arguments: String, _ says: String...) {
      self.arguments = arguments.split(separator: " ").map(String.init)
      self.says = says
    }
  }

  static let mistakes = [
    Mistake("simulte", "Unknown verb 'simulte'", "Did you mean 'simulate'?"),
    Mistake("frobnicate model", "Unknown verb", "Known: aggregate"),
    Mistake("help simulte", "Unknown verb 'simulte'", "Did you mean 'simulate'?"),
    Mistake("help nonsense", "Unknown verb 'nonsense'", "Known: aggregate"),
    Mistake("inspect", "path"),
    Mistake("inspect MODEL --jsn", "'--jsn'", "--json"),
    Mistake("inspect MODEL --threads 0", "--threads is 0"),
    Mistake("inspect MODEL --seed minus", "--seed"),
    Mistake("inspect MODEL --seed 9223372036854775808", "--seed is 9223372036854775808"),
    Mistake("evaluate MODEL", "--text FILE"),
    Mistake("evaluate MODEL --text TEXT --choices TEXT", "Give one of"),
    Mistake("evaluate MODEL --text TEXT --context 33", "between 1 and 32"),
    Mistake("evaluate MODEL --text TEXT --stride 40", "stride"),
    Mistake("evaluate MODEL --text TEXT --limit 0", "--limit is 0"),
    Mistake("evaluate MODEL --text TEXT --limit -1", "--limit is -1"),
    Mistake("evaluate MODEL --text TEXT --json -1", "--json"),
    Mistake("evaluate MODEL --text TEXT -- -1", "Unexpected argument '-1'"),
    Mistake("generate MODEL --prompt a --temperature nan", "--temperature"),
    Mistake("compress MODEL --recipe layer-drp=1 --out x", "Did you mean 'layer-drop'?"),
    Mistake("compress MODEL --recipe layer-drop=3 --out x", "more blocks than the middle has, 2"),
    Mistake("compress MODEL --recipe layer-drop=0 --out x", "at least 1"),
    Mistake("compress MODEL --recipe layer-drop --out x", "layer-drop=4"),
    Mistake("compress MODEL --recipe , --out x", "Unknown word ''"),
    Mistake("compress MODEL --bottom 2 --top 2 --recipe layer-drop=1 --out x", "leave at least 1"),
    Mistake(
      "compress MODEL --bottom 9223372036854775807 --top 9223372036854775807 --recipe layer-drop=1 --out x",
      "does not fit a model of 4 blocks"),
    Mistake("compress MODEL --recipe int4=best --out x", "int4=gptq"),
    Mistake("compress MODEL --recipe int4=gptq --out x", "looks at what the middle computes"),
    Mistake(
      "compress MODEL --recipe layer-drop=1 --out x --distill-steps 5",
      "--distill-steps is about distillation", "--distill"),
    Mistake(
      "compress MODEL --recipe layer-drop=1 --out x --distill TEXT --distill-context 33",
      "--distill-context is 33", "32 tokens at most"),
    Mistake(
      "compress MODEL --recipe layer-drop=1 --out x --distill TEXT --loss-weight 0 --state-weight 0",
      "nothing to make small"),
    Mistake("compress MODEL --recipe layer-drop=1 --out x --resume", "--resume is about"),
    Mistake("attack MODEL EMULATOR --task TEXT --held-out TEXT --runs 0", "--runs is 0"),
    Mistake("attack MODEL EMULATOR --task TEXT --held-out TEXT --steps 0", "steps is 0"),
    Mistake("attack MODEL EMULATOR --task TEXT --held-out TEXT --layout pack", "packed"),
    Mistake(
      "attack MODEL EMULATOR --task TEXT --held-out TEXT --own-held-out TEXT",
      "--own-held-out is about", "--own"),
    Mistake(
      "compress MODEL --recipe low-rank=0.5 --out x --transformers", "'low-rank'", "fedpeat export"),
    Mistake(
      "attack MODEL EMULATOR --task TEXT --held-out TEXT --public-rate -1", "learning rate above 0"),
    Mistake(
      "attack MODEL EMULATOR --task TEXT --held-out TEXT --public-rate 1e-3,fast",
      "--public-rate needs learning rates", "1e-3,fast"),
    Mistake(
      "compare-emulators MODEL --task TEXT --held-out TEXT --out x --recipe layer-drp=1",
      "Did you mean 'layer-drop'?"),
    Mistake(
      "compare-emulators MODEL --task TEXT --held-out TEXT --out x --recipe layer-drop=1+distilled",
      "give a text with --distill"),
    Mistake("reports --out x --people 0", "--people is 0"),
    Mistake("compress MODEL --recipe layer-drop=1 --out MODEL", "name another"),
    Mistake("compress MODEL --recipe layer-drop=1 --out .", "this command runs in"),
    Mistake("tune EMULATOR --data TEXT --out x --method lorra", "Did you mean 'lora'?"),
    Mistake("tune EMULATOR --data TEXT --out x --schedule cosin", "Did you mean 'cosine'?"),
    Mistake("tune EMULATOR --data TEXT --out x --layout pack", "packed"),
    Mistake(
      "tune EMULATOR --data TEXT --out x --target-modules q_porj", "Did you mean 'q_proj'?"),
    Mistake("tune EMULATOR --data TEXT --out x --rank 0", "rank"),
    Mistake("tune EMULATOR --data TEXT --out x --alpha nan", "alpha"),
    Mistake("tune EMULATOR --data TEXT --out x --learning-rate nan", "--learning-rate is nan"),
    Mistake("tune EMULATOR --data TEXT --out x --learning-rate -1e-3", "--learning-rate is -0.001"),
    Mistake("tune EMULATOR --data TEXT --out x --context 33", "between 1 and 32"),
    Mistake("tune EMULATOR --data TEXT --out x --steps -1", "steps is -1"),
    Mistake("tune EMULATOR --data TEXT --out x --batch 9223372036854775807", "of memory"),
    Mistake("tune EMULATOR --data TEXT --out x --bottom 1", "leave out --bottom"),
    Mistake("tune MODEL --data TEXT --out x --update --method full", "--method full tunes none"),
    Mistake(
      "tune MODEL --data TEXT --out x --from UPDATE --method full", "--method full tunes none"),
    Mistake("tune EMULATOR --data TEXT --out x --from UPDATE --method end-blocks", "Leave it out"),
    Mistake("tune EMULATOR --data TEXT --out x --update --client a/b", "'a/b'"),
    Mistake("pretrain --text TEXT --out x --hidden-size 9223372036854775807", "hidden size"),
    Mistake("pretrain --text TEXT --out x --hidden-size 30 --heads 4", "even multiple"),
    Mistake("pretrain --text TEXT --out x --vocabulary 100", "too small"),
    Mistake("pretrain --text TEXT --out x --steps 0", "error: steps is 0"),
    Mistake("simulate RUN --planner randm", "Did you mean 'random'?"),
    Mistake("simulate RUN --strategy fedavgg", "Did you mean 'fedavg'?"),
    Mistake("simulate RUN --emulator layerdrop=1", "Did you mean 'layer-drop'?"),
    Mistake("simulate RUN --emulator emulatr", "no such folder", "no recipe", "Known: bf16"),
    Mistake("simulate RUN --emulator layer-drop", "layer-drop=4"),
    Mistake("simulate RUN --rounds 0", "rounds is 0"),
    Mistake("simulate RUN --participate", "--server-data"),
    Mistake("simulate RUN --seeds 0", "--seeds is 0"),
    Mistake("simulate", "needs a model"),
    Mistake("serve --emulator layer-drop=1", "needs a model"),
    Mistake("serve RUN --listen nonsense", "not an address"),
    Mistake("serve RUN --listen lab.example:0", "listens on an IP address"),
    Mistake("serve RUN --insecure --ca x", "leave the others out"),
    Mistake("serve RUN --certificate TEXT", "belong together"),
    Mistake("serve RUN --max-transfers 0", "transfers is 0"),
    Mistake("join --coordinator 192.0.2.1:1 --data TEXT", "--token"),
    Mistake("join --coordinator 127.0.0.1:1 --data TEXT --token abc", "no enrolment token"),
    Mistake("join --coordinator 127.0.0.1:1 --data TEXT --key TEXT", "belong together"),
    Mistake("join --coordinator 127.0.0.1:1 --data TEXT --insecure --token a", "leave --token"),
    Mistake("ca token x --run run-0 --count 0", "--count is 0"),
    Mistake("ca token x --run a/b", "can't name a run"),
    Mistake("ca token x --run run-0 --expires 5", "--expires"),
    Mistake("ca issue x ada --host h", "add --server"),
    Mistake("ca init x --days 0", "1 to 36500 days"),
    Mistake("join --data TEXT", "--coordinator HOST:PORT"),
    Mistake("join --coordinator 127.0.0.1:1", "--data FILE"),
    Mistake("join --coordinator nonsense --data TEXT", "not an address"),
    Mistake("join --coordinator 127.0.0.1:1 --data TEXT --name a/b", "'a/b' can't name a client"),
    Mistake("bench pek", "Did you mean 'peak'?"),
    Mistake("bench generate --tokens 1020", "--prompt-tokens and --tokens are 1036 together"),
    Mistake("bench step --layers 4096", "of memory"),
    Mistake("demo --clients 0", "--clients is 0"),
    Mistake("demo --model MODEL", "together"),
    Mistake("aggregate UPDATE --strategy fedavgg --out x", "Did you mean 'fedavg'?"),
  ]

  @Test(arguments: mistakes) func `ends with 64`(mistake: Mistake) async throws {
    let workshop = try await TinyWorkshop.shared()
    let names = [
      "MODEL": workshop.model, "EMULATOR": workshop.emulator, "TEXT": workshop.text,
      "RUN": workshop.runFile, "UPDATE": workshop.adapter,
    ]
    try await withTemporaryFolder { folder in
      try await expect(
        64, saying: mistake.says + ["error: "], from: mistake.arguments.map { names[$0] ?? $0 },
        in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
  }

  @Test func `an argument that is empty is no path`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let compress = ["compress", workshop.model, "--recipe", "layer-drop=1", "--out", ""]
      try await expect(64, saying: ["after '--out' is empty"], from: compress, in: folder)
      try await expect(64, saying: ["after 'inspect' is empty"], from: ["inspect", ""], in: folder)
      try await FedpeatCommand.succeed(
        ["generate", workshop.model, "--prompt", "", "--max-tokens", "1"], in: folder)
      try await FedpeatCommand.succeed(
        ["generate", workshop.model, "--prompt", "-1", "--max-tokens", "1"], in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }
  }
}
