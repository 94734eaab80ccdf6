import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("P-tuning's folders") struct PTuningTests {
  /// PEFT 0.21 saves what P-tuning's encoder makes of its tokens as the table of a prompt (`prompt_embeddings`), and the encoder's sizes in adapter_config.json.
  @Test func `they are read as prompts`() throws {
    try withTemporaryFolder { folder in
      let golden = ProjectFolders.golden
      let model = try Checkpoint(folder: golden.appendingPathComponent("checkpoints/llama-tiny"))
        .model()
      let prompt = golden.appendingPathComponent("virtual-tokens/llama-tiny-prompt")
      let place = folder.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: prompt, to: place)
      let file = place.appendingPathComponent("adapter_config.json")
      guard case .object(var table) = try JSONFile.read(JSONValue.self, from: file) else {
        Issue.record("no table")
        return
      }
      table["peft_type"] = .string("P_TUNING")
      for key in ["encoder_hidden_size", "encoder_num_layers"] { table[key] = .integer(2) }
      table["encoder_dropout"] = .number(0)
      table["encoder_reparameterization_type"] = .string("MLP")
      for key in ["prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"] {
        table[key] = nil
      }
      try JSONFile.encode(JSONValue.object(table)).write(to: file)
      let (read, _) = try AdapterFolder.read(place, for: model)
      let (expected, _) = try AdapterFolder.read(prompt, for: model)
      #expect(read.method == expected.method && read.state == expected.state)
      #expect(read.method.name == PromptTuning.name)
    }
  }
}
