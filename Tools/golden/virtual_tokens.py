"""Prefix tuning, prompt tuning and bottleneck adapters: Tests/ParityTests/Golden/virtual-tokens/<model>-<what>/.

Run after checkpoints.py and families.py.

- `prefix`, `prompt`: PEFT's PREFIX_TUNING with 5 and PROMPT_TUNING with 6 virtual tokens, the folder by `save_pretrained`.
- `bottleneck`: Houlsby's adapters by forward hooks of our own, 6 wide, behind the attention's and the MLP's last layer of the
  first and the last block, before the residual is added; `relu` in Llama, `gelu` (exact) in GPT-2. PEFT has no such method: the
  tensors lie in start.safetensors under FedPEAT's names.

- `t5-prefix`, `t5-shared-prefix`: PEFT's PREFIX_TUNING of `families/t5`, whose decoder has four blocks, with `num_layers` 5 and 4: PEFT gives block i the
  slot 2i mod `num_layers`, so that of 5 each block has one of its own and one is nobody's (zeros here), and of 4 blocks 0 and 2 share one, 1 and 3 another.
  The first half of each list of ids is the source, the second what the decoder reads; trained on the second half behind the start token 0.

expected.safetensors has `input_ids` [1, 19] (as F32), `logits` [1, 19, V] of the tokens with the adapter in place, and of one step of
AdamW (rate 1e-2, no weight decay) on `batch` [2, 19], each token predicting the next of its sequence: `gradient.<name>` and
`final.<name>`. expected.json has the ids, the loss of the first text and that of the batch. Computed in float32.
"""

import shutil

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch.nn import functional
from transformers import T5ForConditionalGeneration

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


def pair_logits(model, ids):
    half = ids.shape[1] // 2
    return model(input_ids=ids[:, :half], decoder_input_ids=ids[:, half:], use_cache=False).logits


def pair_loss(model, ids):
    half = ids.shape[1] // 2
    targets = ids[:, half:]
    read = torch.cat((torch.zeros_like(targets[:, :1]), targets[:, :-1]), dim=1)
    logits = model(input_ids=ids[:, :half], decoder_input_ids=read, use_cache=False).logits
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def pair_prefix(name, layers):
    """A prefix of a model with an encoder, in PEFT's table of so many layers."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)

    def load_t5():
        return T5ForConditionalGeneration.from_pretrained(
            GOLDEN / "families" / "t5", dtype=torch.float32, attn_implementation="eager"
        ).eval()

    model = load_t5()
    model.name_or_path = "families/t5"
    width = model.config.num_heads * model.config.d_kv
    config = PrefixTuningConfig(num_virtual_tokens=5, task_type="SEQ_2_SEQ_LM", num_layers=layers, token_dim=width)
    model = get_peft_model(model, config).eval()
    embedding = model.prompt_encoder["default"].embedding.weight
    used = {2 * block % layers for block in range(model.base_model.config.num_decoder_layers)}
    with torch.no_grad():
        embedding.copy_(Dice(SEED).normal(*embedding.shape, scale=0.7))
        table = embedding.view(-1, layers, 2 * width)
        table[:, [slot for slot in range(layers) if slot not in used]] = 0
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    ids, batch = Dice(SEED + 1).integers(53, 1, 16), Dice(SEED + 2).integers(53, 2, 16)
    with torch.no_grad():
        logits = pair_logits(model, ids)
        assert (logits - pair_logits(load_t5(), ids)).abs().max() > 0.1, f"{name}: the adapter does nothing"
    optimizer = torch.optim.AdamW([embedding], lr=1e-2, weight_decay=0.0)
    loss = pair_loss(model, batch)
    loss.backward()
    gradient = embedding.grad.clone()
    optimizer.step()
    tensors = {"input_ids": ids, "logits": logits, "gradient.prompt_embeddings": gradient, "final.prompt_embeddings": embedding.detach()}
    write_tensors(folder / "expected.safetensors", tensors)
    facts = {
        "base": "families/t5",
        "inputIDs": ids.tolist(),
        "batch": batch.tolist(),
        "batchLoss": loss.item(),
        "computedIn": "float32",
    }
    write_json(folder / "expected.json", facts)
    print(name, loss.item())


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
    pair_prefix("t5-prefix", 5)
    pair_prefix("t5-shared-prefix", 4)
    bottleneck("llama-tiny", "relu")
    bottleneck("gpt2-tiny", "gelu")
    write_manifest(FOLDER, "virtual_tokens.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
