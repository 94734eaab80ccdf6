"""LoRA adapters as PEFT saves them, with non-zero B: Tests/ParityTests/Golden/adapters/<model>-<what>/.

Run after checkpoints.py. Each folder has adapter_config.json and adapter_model.safetensors by `save_pretrained`, and
expected.safetensors with `input_ids` [1, 19] (as F32) and `logits` [1, 19, V] with the adapter; expected.json has the ids and the loss. Computed in float32 with PEFT's own forward (not merged).

- `ends`: rank 4, alpha 8 on all linear modules of the first and last block.
- `pattern`: on attention and MLP of every block, with `rank_pattern` and `alpha_pattern`.
- `rslora`: as `ends`, scaled by alpha / sqrt(rank).
- `dora`: as `ends` with DoRA's magnitudes.
- `modules-to-save`: as `ends` with changed copies of every norm (`modules_to_save: ["norm"]`, which PEFT matches with the
  ends of module names); to be refused or applied.
- `bias`: as `ends` with `bias: "lora_only"`, which stores the biases of the adapted modules; to be refused or applied.
"""

import shutil

import torch
from peft import LoraConfig, get_peft_model

from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors
from trajectories import TARGETS, load

SEED = 909
FOLDER = GOLDEN / "adapters"


# PEFT keeps target_modules as a set: set PYTHONHASHSEED for the same order in adapter_config.json.
def write(base, what, **settings):
    folder = FOLDER / f"{base}-{what}"
    shutil.rmtree(folder, ignore_errors=True)
    model = load(base)
    ids = Dice(SEED + 1).integers(97, 1, 19)
    with torch.no_grad():
        base_logits = model(input_ids=ids, use_cache=False).logits
    last = model.config.num_hidden_layers - 1
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "target_modules": TARGETS[base],
        "layers_to_transform": [0, last],
        "fan_in_fan_out": base.startswith("gpt2"),
        "task_type": "CAUSAL_LM",
    } | settings
    # A relative path, so that adapter_config.json names no folder of the machine that made it.
    model.name_or_path = f"checkpoints/{base}"
    model = get_peft_model(model, LoraConfig(**settings)).eval()
    dice = Dice(SEED)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_A" in name:
                p.copy_(dice.normal(*p.shape, scale=p.shape[1] ** -0.5))
            elif "lora_B" in name:
                p.copy_(dice.normal(*p.shape, scale=0.15))
            elif p.requires_grad:  # magnitudes, saved modules, biases
                p.mul_(dice.normal(*p.shape, scale=0.15, mean=1).float())
        output = model(input_ids=ids, labels=ids, use_cache=False)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    moved = (output.logits - base_logits).abs().max().item()
    assert moved > 0.1, f"{folder.name}: the adapter does nothing"
    write_tensors(folder / "expected.safetensors", {"input_ids": ids, "logits": output.logits})
    facts = {"base": f"checkpoints/{base}", "inputIDs": ids.tolist(), "loss": output.loss.item()}
    write_json(folder / "expected.json", facts | {"computedIn": "float32"})
    print(folder.name, "largest change of a logit", moved)


def main():
    torch.set_num_threads(1)
    for base in TARGETS:
        write(base, "ends")
    write(
        "llama-tiny",
        "pattern",
        layers_to_transform=None,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"down_proj": 2, "layers.0.self_attn.q_proj": 3},
        alpha_pattern={"v_proj": 12, "layers.4.mlp.down_proj": 5},
    )
    write(
        "gpt2-tiny",
        "pattern",
        layers_to_transform=None,
        target_modules=["c_attn", "mlp.c_proj"],
        rank_pattern={"mlp.c_proj": 2},
        alpha_pattern={"h.2.attn.c_attn": 20},
    )
    write("llama-tiny", "rslora", use_rslora=True)
    write("llama-tiny", "dora", use_dora=True)
    write("llama-tiny", "modules-to-save", modules_to_save=["norm"])
    write("gpt2-tiny", "bias", bias="lora_only")
    write_manifest(FOLDER, "adapters.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
