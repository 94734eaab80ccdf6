"""Prefix tuning, prompt tuning and bottleneck adapters: Tests/ParityTests/Golden/virtual-tokens/<model>-<what>/.

Run after checkpoints.py.

- `prefix`, `prompt`: PEFT's PREFIX_TUNING with 5 and PROMPT_TUNING with 6 virtual tokens, the folder by `save_pretrained`.
- `bottleneck`: Houlsby's adapters by forward hooks of our own, 6 wide, behind the attention's and the MLP's last layer of the
  first and the last block, before the residual is added; `relu` in Llama, `gelu` (exact) in GPT-2. PEFT has no such method: the
  tensors lie in start.safetensors under FedPEAT's names.

expected.safetensors has `input_ids` [1, 19] (as F32), `logits` [1, 19, V] of the tokens with the adapter in place, and of one step of
AdamW (rate 1e-2, no weight decay) on `batch` [2, 19], each token predicting the next of its sequence: `gradient.<name>` and
`final.<name>`. expected.json has the ids, the loss of the first text and that of the batch. Computed in float32.
"""

import shutil

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch.nn import functional

from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors
from trajectories import load

SEED = 1311
FOLDER = GOLDEN / "virtual-tokens"
LENGTH, VOCABULARY = 19, 97
PATHS = {
    "llama-tiny": ("model.layers", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2-tiny": ("transformer.h", "attn.c_proj", "mlp.c_proj"),
}


def token_logits(model, ids):
    """The logits of the tokens, without those of virtual ones."""
    return model(input_ids=ids, use_cache=False).logits[:, -ids.shape[1] :]


def mean_loss(logits, ids):
    return functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def write(folder, base, model, trained, before):
    """`trained`: the parameters by the names that tensors get."""
    ids = Dice(SEED + 1).integers(VOCABULARY, 1, LENGTH)
    batch = Dice(SEED + 2).integers(VOCABULARY, 2, LENGTH)
    with torch.no_grad():
        logits = token_logits(model, ids)
        moved = (logits - before(ids)).abs().max().item()
    assert moved > 0.1, f"{folder.name}: the adapter does nothing"
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.0)
    loss = mean_loss(token_logits(model, batch), batch)
    loss.backward()
    gradients = {f"gradient.{k}": p.grad.clone() for k, p in trained.items()}
    optimizer.step()
    final = {f"final.{k}": p.detach() for k, p in trained.items()}
    write_tensors(folder / "expected.safetensors", {"input_ids": ids, "logits": logits} | gradients | final)
    facts = {
        "base": f"checkpoints/{base}",
        "inputIDs": ids.tolist(),
        "batch": batch.tolist(),
        "loss": mean_loss(logits, ids).item(),
        "batchLoss": loss.item(),
        "computedIn": "float32",
    }
    write_json(folder / "expected.json", facts)
    print(folder.name, "largest change of a logit", moved)


def fresh(base, what):
    folder = FOLDER / f"{base}-{what}"
    shutil.rmtree(folder, ignore_errors=True)
    model = load(base)
    # A relative path, so that adapter_config.json names no folder of the machine that made it.
    model.name_or_path = f"checkpoints/{base}"
    plain = load(base)
    return folder, model, lambda ids: token_logits(plain, ids)


def by_peft(base, what, config, scale):
    folder, model, before = fresh(base, what)
    torch.manual_seed(SEED)
    model = get_peft_model(model, config).eval()
    embedding = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        embedding.copy_(Dice(SEED).normal(*embedding.shape, scale=scale))
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    write(folder, base, model, {"prompt_embeddings": embedding}, before)


class Bottleneck(torch.nn.Module):
    def __init__(self, dice, width, size, act):
        super().__init__()
        self.down, self.up, self.act = torch.nn.Linear(width, size), torch.nn.Linear(size, width), act
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(dice.normal(*p.shape, scale=0.3))

    def forward(self, h):
        return h + self.up(self.act(self.down(h)))


def bottleneck(base, act):
    folder, model, before = fresh(base, "bottleneck")
    model.requires_grad_(False)
    blocks, attention, feed_forward = PATHS[base]
    dice, trained = Dice(SEED + 3), {}
    for block in (0, model.config.num_hidden_layers - 1):
        for path, name in ((attention, "attention_adapter"), (feed_forward, "feed_forward_adapter")):
            layer = model.get_submodule(f"{blocks}.{block}.{path}")
            adapter = Bottleneck(dice, model.config.hidden_size, 6, getattr(functional, act))
            layer.register_forward_hook(lambda _, __, h, adapter=adapter: adapter(h))
            trained |= {f"{blocks}.{block}.{name}.{k}": p for k, p in adapter.named_parameters()}
    write_tensors(folder / "start.safetensors", trained)
    write(folder, base, model, trained, before)
    facts = {"size": 6, "activation": act}
    write_json(folder / "start.json", facts)


def main():
    torch.set_num_threads(1)
    for base in PATHS:
        task = {"task_type": "CAUSAL_LM"}
        by_peft(base, "prefix", PrefixTuningConfig(num_virtual_tokens=5, **task), 0.7)
        by_peft(base, "prompt", PromptTuningConfig(num_virtual_tokens=6, **task), 0.5)
    bottleneck("llama-tiny", "relu")
    bottleneck("gpt2-tiny", "gelu")
    write_manifest(FOLDER, "virtual_tokens.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
