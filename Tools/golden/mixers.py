"""Tiny random MLP-Mixers, and what timm computes of them.

Needs timm beside torch (and torchvision, which timm imports). Writes Tests/ParityTests/Golden/families/<name>/: config.json, model.safetensors and
reference.safetensors as `reference.py` writes it, and a manifest with the versions. config.json says sizes in the words of timm's `MlpMixer`: those that timm
has names for are too large to be kept here.
"""

import shutil

import timm
import torch
from timm.models.mlp_mixer import MlpMixer

from families import FOLDER, scatter, seed
from golden import Dice, versions, write_json, write_tensors
from reference import two_pictures

SIZES = {"img_size": 8, "patch_size": 2, "in_chans": 3, "num_blocks": 3, "embed_dim": 12, "mlp_ratio": [0.75, 1.5]}
LABELS = ["cat", "dog", "owl"]


def reference(model, dice) -> dict:
    pictures, shared = two_pictures(dice, SIZES["in_chans"], SIZES["img_size"], SIZES["patch_size"], own=0)
    targets = torch.full_like(shared["input_ids"], -1)
    if model.num_classes > 0:
        labels = dice.integers(model.num_classes, 2)
        targets[:, 0] = labels
        logits = model(pictures)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        found = {"logits": logits}
    else:
        states = model.forward_features(pictures)
        loss = states.square().mean()
        found = {"states": states}
    loss.backward()
    gradients = {f"gradient.{name}": p.grad for name, p in model.named_parameters()}
    return shared | found | {"targets": targets, "loss": loss.reshape(1)} | gradients


def write(name, model, config) -> None:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    scatter(model, seed(name))
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", model.state_dict())
    for file in folder.iterdir():
        file.chmod(0o644)
    values = reference(model, Dice(seed(name) + 100))
    write_tensors(folder / "reference.safetensors", values)
    facts = {"torch": versions()["torch"], "timm": timm.__version__}
    write_json(folder / "manifest.json", {"generator": "Tools/golden/mixers.py", "versions": facts, "seed": seed(name)})
    print(name, "loss", values["loss"].item())


def main():
    torch.set_num_threads(1)
    whole = {"model_type": "mlp-mixer", "num_classes": 3, "label_names": LABELS, "model_args": SIZES}
    write("mixer-classes", MlpMixer(num_classes=3, **SIZES), whole)
    bare = {"model_type": "mlp-mixer", "num_classes": 0, "model_args": SIZES}
    write("mixer", MlpMixer(num_classes=0, **SIZES), bare)


if __name__ == "__main__":
    main()
