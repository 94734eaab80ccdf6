import PeatTensor
import Testing

@Suite("Weights in other forms") struct ForeignWeightsTests {
  @Test(arguments: [
    (["config.json", "pytorch_model.bin"], ForeignWeights.Form.pickle, "pytorch_model.bin"),
    (["a.pth", "training_args.bin"], .pickle, "a.pth"), (["tf_model.h5"], .keras, "tf_model.h5"),
    (["flax_model.msgpack"], .flax, "flax_model.msgpack"),
    (["model-q4.gguf", "README.md"], .gguf, "model-q4.gguf"),
    (["model.gguf", "pytorch_model.bin"], .pickle, "pytorch_model.bin"),
  ])
  func `are told by their endings`(files: [String], form: ForeignWeights.Form, file: String) throws
  {
    let found = try #require(ForeignWeights(among: files))
    #expect(found.form == form && found.file == file)
  }

  @Test func `none where there are none`() {
    #expect(
      ForeignWeights(among: ["config.json", "training_args.bin", "model.safetensors"]) == nil)
  }

  @Test func `each says why and how, and only pickles run code`() throws {
    for (file, words) in [
      ("pytorch_model.bin", ["runs code", "save_pretrained('FOLDER')"]),
      ("tf_model.h5", ["TensorFlow", "from_tf=True"]), ("flax.msgpack", ["from_flax=True"]),
      ("x.gguf", ["llama.cpp", "gguf_file='x.gguf'"]),
    ] {
      let advice = try #require(ForeignWeights(among: [file])).advice(
        source: "someone/tiny", classes: ["BertModel", "AutoTokenizer"])
      for word in words + ["'someone/tiny'", "BertModel, AutoTokenizer"] {
        #expect(advice.contains(word), "\(advice)")
      }
      #expect(advice.contains("runs code") == (file == "pytorch_model.bin"))
    }
  }

  @Test func `a path that would end the command's quotes is left for the reader to fill in`() throws
  {
    let advice = try #require(ForeignWeights(among: ["a.bin"])).advice(source: "it's")
    #expect(advice.contains("'SOURCE'"))
  }
}
