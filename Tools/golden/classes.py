"""Classifiers tuned by PEFT (its task SEQ_CLS): Tests/ParityTests/Golden/classes/<model>-<what>/.

Run after families.py.

- `lora`: rank 3 on the queries and values; `lora-all`: on `all-linear` but the pooler.
- `ia3`: PEFT's usual modules.
- `norms`: LN_TUNING on every norm there is, also the embedding's and the last.
- `prefix`, `prompt`: 4 and 5 virtual tokens.

Of pictures: `vit-classes` and `deit-classes` with `lora` (patterns of ranks and alphas, and the head), `ia3` and `norms`. PEFT names their modules, which transformers calls
otherwise than the tensors of a checkpoint.

PEFT saves the head beside each of those of texts. Each folder is by `save_pretrained`; expected.safetensors has `input_ids` [2, 11] (as F32) and `logits`
[2, 3] with the adapter in place, expected.json the ids; of pictures `patches` and their numbers as in families.py. Computed in float32.
"""

import shutil

import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model

from check_checkpoint import load_strictly, logits_of
from reference import two_pictures
from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors

SEED = 2027
FOLDER = GOLDEN / "classes"
SOME = {"bert-classes": ["query", "value"], "llama-classes": ["q_proj", "v_proj"]}
NORMS = {"bert-classes": ["LayerNorm"], "llama-classes": ["input_layernorm", "post_attention_layernorm", "norm"]}


def write(base, what, config):
    ids = Dice(SEED + 1).integers(52, 2, 11)
    save(base, what, config, lambda model: logits_of(model, ids)[:, 0], {"input_ids": ids}, {"inputIDs": ids.tolist()})


def write_pictures(base, what, config):
    sizes = load_strictly(GOLDEN / "families" / base).config
    own = 2 if sizes.model_type == "deit" else 1
    pictures, shared = two_pictures(Dice(SEED + 1), sizes.num_channels, sizes.image_size, sizes.patch_size, own)
    save(base, what, config, lambda model: model(pixel_values=pictures).logits, shared, {"inputIDs": shared["input_ids"].tolist()})


def save(base, what, config, logits_of_model, inputs, facts):
    folder = FOLDER / f"{base}-{what}"
    shutil.rmtree(folder, ignore_errors=True)
    place = GOLDEN / "families" / base
    with torch.no_grad():
        before = logits_of_model(load_strictly(place))
    torch.manual_seed(SEED)
    model = load_strictly(place)
    # A relative path, so that adapter_config.json names no folder of the machine that made it.
    model.name_or_path = f"families/{base}"
    model = get_peft_model(model, config).eval()
    dice = Dice(SEED)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.requires_grad:
                p.add_(dice.normal(*p.shape, scale=0.3))
        logits = logits_of_model(model)
    moved = (logits - before).abs().max().item()
    assert moved > 0.1, f"{folder.name}: the adapter does nothing"
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    write_tensors(folder / "expected.safetensors", inputs | {"logits": logits})
    write_json(folder / "expected.json", {"base": f"families/{base}"} | facts | {"computedIn": "float32"})
    print(folder.name, "largest change of a logit", moved)


def main():
    torch.set_num_threads(1)
    task = {"task_type": "SEQ_CLS"}
    for base, modules in SOME.items():
        write(base, "lora", LoraConfig(r=3, lora_alpha=6, target_modules=modules, **task))
        write(base, "lora-all", LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", exclude_modules=["pooler.dense"], **task))
        write(base, "ia3", IA3Config(**task))
        write(base, "norms", LNTuningConfig(target_modules=NORMS[base], **task))
        write(base, "prefix", PrefixTuningConfig(num_virtual_tokens=4, **task))
        write(base, "prompt", PromptTuningConfig(num_virtual_tokens=5, **task))
    for base in ["vit-classes", "deit-classes"]:
        write_pictures(base, "lora", LoraConfig(
            r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "fc1", "mlp.fc2"], rank_pattern={"q_proj": 2, "layers.1.mlp.fc1": 4},
            alpha_pattern={"v_proj": 12}, modules_to_save=["classifier"]))
        write_pictures(base, "ia3", IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]))
        write_pictures(base, "norms", LNTuningConfig(target_modules=["layernorm_before", "layernorm_after", "layernorm"]))
    write_manifest(FOLDER, "classes.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
