"""DoRA, IA3, tuned norms and LoRA's options by PEFT: Tests/ParityTests/Golden/methods/<model>-<what>/.

Run after checkpoints.py.

- `dora`: rank 3, alpha 6 on two of a block's linear modules, in the first and the last block.
- `ia3`: PEFT's usual modules, of which the feed-forward layer's last is scaled at its input.
- `norms`: LN_TUNING on the norms of all blocks.
- `options`: LoRA with a rank pattern, an alpha pattern, alpha / sqrt(rank) and chosen layers.

Each folder is by `save_pretrained`, and expected.safetensors and expected.json are as in virtual_tokens.py: logits, gradients and the
parameters after one step of AdamW. Computed in float32.
"""

import shutil

import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, get_peft_model, get_peft_model_state_dict

import virtual_tokens
from golden import GOLDEN, Dice, write_manifest
from trajectories import load

SEED = 1717
FOLDER = GOLDEN / "methods"
SOME = {"llama-tiny": ["q_proj", "down_proj"], "gpt2-tiny": ["c_attn", "mlp.c_proj"]}
NORMS = {"llama-tiny": ["input_layernorm", "post_attention_layernorm"], "gpt2-tiny": ["ln_1", "ln_2"]}


def write(base, what, config):
    folder = FOLDER / f"{base}-{what}"
    shutil.rmtree(folder, ignore_errors=True)
    model, plain = load(base), load(base)
    # A relative path, so that adapter_config.json names no folder of the machine that made it.
    model.name_or_path = f"checkpoints/{base}"
    torch.manual_seed(SEED)
    model = get_peft_model(model, config).eval()
    dice = Dice(SEED)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if not p.requires_grad:
                continue
            if "lora_A" in name:
                p.copy_(dice.normal(*p.shape, scale=p.shape[1] ** -0.5))
            elif "lora_B" in name:
                p.copy_(dice.normal(*p.shape, scale=0.15))
            else:  # magnitudes, scales, norms
                p.mul_(dice.normal(*p.shape, scale=0.2, mean=1).float()).add_(dice.normal(*p.shape, scale=0.02))
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    stored = get_peft_model_state_dict(model, save_embedding_layers=False)
    places = {tensor.data_ptr(): name for name, tensor in stored.items()}
    trained = {places[p.data_ptr()]: p for p in model.parameters() if p.requires_grad}
    assert len(trained) == len(stored)
    virtual_tokens.write(folder, base, model, trained, lambda ids: virtual_tokens.token_logits(plain, ids))


def main():
    torch.set_num_threads(1)
    for base, modules in SOME.items():
        last = load(base).config.num_hidden_layers - 1
        task = {"task_type": "CAUSAL_LM"}
        lora = task | {"target_modules": modules, "fan_in_fan_out": base.startswith("gpt2")}
        write(base, "dora", LoraConfig(r=3, lora_alpha=6, use_dora=True, layers_to_transform=[0, last], **lora))
        write(base, "ia3", IA3Config(**task))
        write(base, "norms", LNTuningConfig(target_modules=NORMS[base], **task))
        patterns = {"rank_pattern": {modules[1]: 2}, "alpha_pattern": {modules[0]: 5}}
        chosen = {"layers_to_transform": [0, last - 1]}
        write(base, "options", LoraConfig(r=4, lora_alpha=8, use_rslora=True, **patterns, **chosen, **lora))
    write_manifest(FOLDER, "methods.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
