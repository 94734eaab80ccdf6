"""What transformers computes of a checkpoint: logits, loss and all gradients, for `fedpeat parity` to compare with.

    Tools/golden/reference.py MODEL [--seed N] [--length N]

Writes MODEL/reference.safetensors: `input_ids` [B, T] (as F32), `logits` [B, T, V], `loss` [1] (each token predicts the next, mean over B x (T - 1)), and
`gradient.NAME` of each parameter, under the checkpoint's names. Computed in float32 with eager attention.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from golden import Dice, write_tensors


# What transformers calls otherwise than the checkpoints do that it reads and writes.
STORED = {"gpt_neox": {"lm_head.weight": "embed_out.weight"}}


def causal_reference(model, ids: torch.Tensor) -> dict:
    """Logits, loss and gradients of predicting each next token."""
    model.zero_grad(set_to_none=True)
    output = model(input_ids=ids, labels=ids, use_cache=False)
    output.loss.backward()
    gradients = {f"gradient.{STORED.get(model.config.model_type, {}).get(name, name)}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"input_ids": ids, "logits": output.logits, "loss": output.loss.reshape(1)} | gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=19)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager").eval()
    ids = Dice(options.seed).integers(model.config.vocab_size, 2, options.length)
    write_tensors(options.model / "reference.safetensors", causal_reference(model, ids))


if __name__ == "__main__":
    main()
