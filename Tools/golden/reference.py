"""What transformers computes of a checkpoint: logits, loss and all gradients, for `fedpeat parity` to compare with.

    Tools/golden/reference.py MODEL [--seed N] [--length N]

Writes MODEL/reference.safetensors: `input_ids` [B, T] and `targets` [B, T] (as F32; what is to be predicted at each place, -1 where nothing is), `logits`
[B, T, V], or [B, classes] of a model of classes, `loss` [1] (the mean over all targets), and `gradient.NAME` of each parameter, under the checkpoint's names.
Of a model without a head `states` [B, T, d] in their place, the loss being the mean of their squares. Computed in float32 with eager attention.
"""

import argparse
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

from golden import Dice, write_tensors


# What transformers calls otherwise than the checkpoints do that it reads and writes.
STORED = {"gpt_neox": {"lm_head.weight": "embed_out.weight"}}


def reference(model, seed: int, length: int) -> dict:
    """Logits, loss and gradients of what the model's head predicts: each next token, some masked ones, or a class."""
    dice = Dice(seed)
    ids = dice.integers(model.config.vocab_size, 2, length)
    # Filling is never learned, and has positions of its own in some models.
    ids[ids == getattr(model.config, "pad_token_id", None)] = 3
    kind = type(model).__name__
    targets = torch.full_like(ids, -1)
    model.zero_grad(set_to_none=True)
    if kind.endswith("ForSequenceClassification"):
        labels = dice.integers(model.config.num_labels, 2)
        targets[:, -1 if hasattr(model, "score") else 0] = labels
        output = model(input_ids=ids, labels=labels)
    elif kind.endswith(("ForCausalLM", "LMHeadModel")):
        targets[:, :-1] = ids[:, 1:]
        output = model(input_ids=ids, labels=ids, use_cache=False)
    elif kind.endswith("ForMaskedLM"):
        targets[:, ::3] = dice.integers(model.config.vocab_size, *targets[:, ::3].shape)
        output = model(input_ids=ids, labels=targets.masked_fill(targets < 0, -100))
    else:
        states = model(input_ids=ids).last_hidden_state
        loss = states.square().mean()
        loss.backward()
        return {"input_ids": ids, "targets": targets, "states": states, "loss": loss.reshape(1)} | gradients(model)
    output.loss.backward()
    return {"input_ids": ids, "targets": targets, "logits": output.logits, "loss": output.loss.reshape(1)} | gradients(model)


def gradients(model) -> dict:
    names = STORED.get(model.config.model_type, {})
    return {f"gradient.{names.get(name, name)}": p.grad for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=19)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind = getattr(transformers, AutoConfig.from_pretrained(options.model).architectures[0])
    model = kind.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager").eval()
    write_tensors(options.model / "reference.safetensors", reference(model, options.seed, options.length))


if __name__ == "__main__":
    main()
