"""The tinyshakespeare protocol with stories260K in PyTorch: text, windows, emulators, tuning and perplexity."""

import copy
import math
import statistics

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from golden import assets

MODEL = assets() / "models" / "stories260K"
TEXT = assets() / "corpora" / "tinyshakespeare" / "input.txt"
WINDOW = 256
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

PROTOCOL = {
    "model": "stories260K (Llama, 5 blocks, d 64, vocabulary 512), float32, one thread",
    "text": "tinyshakespeare",
    "tokens": "tokenised without BOS, each text in one piece",
    "training": "each step 8 windows of 257 tokens, start positions drawn uniformly over all that fit (torch.randint "
    "from a generator seeded with the seed); loss is the mean over all 8 x 256 predictions",
    "optimizer": "AdamW, betas 0.9 and 0.999, epsilon 1e-8, no weight decay, no clipping, constant rate",
    "lora": "rank 8, alpha 16, no dropout, PEFT's default start (A Kaiming uniform, B zero; torch.manual_seed(seed))",
    "evaluation": "perplexity = exp(mean loss) over windows of 256 predictions, each window starting with the last token "
    "of the one before; the last window may be shorter",
}


def load_model():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def tokens_of(text):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    return torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)


def read_text():
    return TEXT.read_text(encoding="utf-8")


def perplexity(model, tokens):
    """exp of the mean loss over all predictions of `tokens`, in windows of 256."""
    model.eval()
    windows = [tokens[i : i + WINDOW + 1] for i in range(0, len(tokens) - 1, WINDOW)]
    full = [w for w in windows if len(w) == WINDOW + 1]
    batches = [torch.stack(full[i : i + 16]) for i in range(0, len(full), 16)]
    batches += [w[None] for w in windows if len(w) <= WINDOW]
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
            )
            total += losses.double().sum().item()
            count += losses.numel()
    assert count == len(tokens) - 1
    return math.exp(total / count)


def keeping(model, blocks):
    """A copy of the model with only these blocks."""
    smaller = copy.deepcopy(model)
    smaller.model.layers = torch.nn.ModuleList(smaller.model.layers[b] for b in blocks)
    for number, block in enumerate(smaller.model.layers):
        block.self_attn.layer_idx = number
    smaller.config.num_hidden_layers = len(blocks)
    smaller.config.layer_types = None
    return smaller


def with_lora(model, seed, blocks):
    torch.manual_seed(seed)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=SEVEN,
        layers_to_transform=blocks,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def windows(tokens, seed, batch, steps):
    """The training batches of a seed: `steps` tensors [batch, 257]."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(0, len(tokens) - WINDOW, (batch,), generator=generator)
        yield torch.stack([tokens[s : s + WINDOW + 1] for s in starts.tolist()])


def tune(model, batches, rate, optimizer=None):
    """Tunes whatever has `requires_grad`; gives the losses and the optimizer."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses, optimizer


def renumber(state, mapping):
    """The tensors of an adapter or of blocks under other block numbers."""
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        at = parts.index("layers") + 1
        parts[at] = str(mapping[int(parts[at])])
        renamed[".".join(parts)] = value.detach().clone()
    return renamed


def plugged_lora(full, tuned, kept, ends):
    """The full model with the adapter that was tuned on the blocks `kept` of it."""
    mapping = dict(enumerate(kept))
    state = renumber(get_peft_model_state_dict(tuned), mapping)
    model = with_lora(copy.deepcopy(full), 0, ends)
    result = set_peft_model_state_dict(model, state)
    assert not result.unexpected_keys, result.unexpected_keys
    own = get_peft_model_state_dict(model)
    assert own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in own)
    return model


def summary(values):
    return {
        "median": statistics.median(values),
        "minimum": min(values),
        "maximum": max(values),
        "runs": list(values),
    }
