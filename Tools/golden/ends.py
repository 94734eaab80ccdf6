"""Where a text that a model writes ends, by transformers: a tiny Llama and its greedy continuation of a prompt.

    Tools/golden/ends.py

Writes Tests/ParityTests/Golden/ends: a checkpoint with a byte-level tokenizer, whose `eos_token_id` in generation_config.json is a list and in config.json another number, and
`expected.json`: the prompt and, by which of the files names ends (or a generation_config.json that names none), the text that `generate` writes at most 40 tokens of, and how many tokens it has with the one that ends it.
"""

import json
import shutil

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from families import scatter
from golden import GOLDEN, write_json, write_manifest

SEED = 91
FOLDER = GOLDEN / "ends"
PROMPT = "Once upon"


def tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    result = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(["<end>"])
    return result


def written(folder, tokens):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    words = tokenizer()
    ids = torch.tensor([words.encode(PROMPT).ids])
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0, ids.shape[1]:].tolist()
    return said


def main():
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    words = tokenizer()
    end = words.token_to_id("<end>")
    config = LlamaConfig(
        vocab_size=words.get_vocab_size(), hidden_size=16, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, intermediate_size=24,
        max_position_embeddings=96, bos_token_id=None, eos_token_id=end, pad_token_id=end,
    )
    scatter(LlamaForCausalLM(config), SEED).save_pretrained(FOLDER)
    words.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}) + "\n")
    generation, own = FOLDER / "generation_config.json", FOLDER / "config.json"
    generation.unlink(missing_ok=True)
    whole = written(FOLDER, 40)
    # Two tokens that come, one after some others.
    seen = list(dict.fromkeys(whole))
    early, late = seen[len(seen) // 3], seen[2 * len(seen) // 3]
    assert len(seen) > 5 and end not in whole, whole
    table = json.loads(own.read_text())
    own.write_text(json.dumps(table | {"eos_token_id": early}, indent=2) + "\n")
    cases = {"config": written(FOLDER, 40)}
    generation.write_text(json.dumps({"eos_token_id": [late, end], "pad_token_id": end}, indent=2) + "\n")
    cases["generation_config"] = written(FOLDER, 40)
    whole_file = generation.read_text()
    generation.write_text("{}")
    cases["nothing"] = written(FOLDER, 40)
    generation.write_text(whole_file)

    ends = {"config": [early], "generation_config": [late, end], "nothing": []}

    def text(said, ends):
        return words.decode([token for token in said if token not in ends], skip_special_tokens=True)

    write_json(FOLDER / "expected.json", {
        "prompt": PROMPT,
        "cases": {
            name: {"text": text(said, ends[name]), "tokens": len(said)} for name, said in cases.items()
        },
    })
    for file in FOLDER.iterdir():
        file.chmod(0o644)
    write_manifest(FOLDER, "ends.py", SEED, computedIn="float32")
    print({name: len(said) for name, said in cases.items()})


if __name__ == "__main__":
    main()
