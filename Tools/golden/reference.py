"""What transformers computes of a checkpoint: logits, loss and all gradients, for `fedpeat parity` to compare with.

    Tools/golden/reference.py MODEL [--seed N] [--length N] [--pairs]

Writes MODEL/reference.safetensors: `input_ids` [B, T] and `targets` [B, T] (as F32; what is to be predicted at each place, -1 where nothing is), `logits`
[B, T, V], or [B, classes] of a model of classes, `loss` [1] (the mean over all targets), and `gradient.NAME` of each parameter, under the checkpoint's names.
Of a model with an encoder `source_length` [1] says how many tokens of each row it reads; `logits` are of the others,
and `greedy` is what `generate` says after `greedy_source`: of some sources the one with the most varied answer.
Of a model without a head `states` [B, T, d] in their place, the loss being the mean of their squares. With --pairs also `token_types` [B, T]: the end of each row is
the second text of a pair. Computed in float32 with eager attention.
"""

import argparse
import re
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

from golden import Dice, write_tensors


# What transformers calls otherwise than the checkpoints do that it reads and writes: patterns and what stands in their place.
VIT = {
    r"\blayers\.(\d+)\.": r"encoder.layer.\1.", "attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense", "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
STORED = {
    "gpt_neox": {"lm_head.weight": "embed_out.weight"}, "vit": VIT, "deit": VIT,
    # One parameter, which PyTorch finds in the head first.
    "xlm-roberta": {r"^lm_head\.decoder\.weight$": "roberta.embeddings.word_embeddings.weight"},
}


def reference(model, seed: int, length: int, pairs: bool = False, padded: bool = False) -> dict:
    """Logits, loss and gradients of what the model's head predicts: each next token, some masked ones, or a class.

    With `padded` the token for filling stands in the rows as if it were written there, at the end of the first and within both."""
    dice = Dice(seed)
    if hasattr(tower(model.config), "patch_size"):
        return picture_reference(model, dice)
    if model.config.is_encoder_decoder:
        return pair_reference(model, dice, length)
    ids = dice.integers(model.config.vocab_size, 2, length)
    # Filling is never learned, and has positions of its own in some models.
    filling = getattr(model.config, "pad_token_id", None)
    ids[ids == filling] = 4 if filling == 3 else 3
    if padded:
        ids[0, [1, 2, length - 2, length - 1]] = ids[1, [0, length - 2]] = model.config.pad_token_id
        # It learns as other tokens do.
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.padding_idx = None
    kind = type(model).__name__
    targets = torch.full_like(ids, -1)
    given = {"input_ids": ids}
    if pairs:
        ends = torch.tensor([[length // 3], [length // 2]])
        given["token_type_ids"] = (torch.arange(length)[None] >= ends).long()
    known = {"input_ids": ids, "targets": targets} | ({"token_types": given["token_type_ids"]} if pairs else {})
    model.zero_grad(set_to_none=True)
    if kind.endswith("ForSequenceClassification"):
        labels = dice.integers(model.config.num_labels, 2)
        last = (torch.arange(length) * (ids != model.config.pad_token_id)).argmax(1)
        targets[torch.arange(2), last if hasattr(model, "score") else 0] = labels
        output = model(**given, labels=labels)
    elif kind.endswith(("ForCausalLM", "LMHeadModel")):
        targets[:, :-1] = ids[:, 1:]
        output = model(input_ids=ids, labels=ids, use_cache=False)
    elif kind.endswith("ForMaskedLM"):
        targets[:, ::3] = dice.integers(model.config.vocab_size, *targets[:, ::3].shape)
        output = model(**given, labels=targets.masked_fill(targets < 0, -100))
    else:
        states = model(**given).last_hidden_state
        loss = states.square().mean()
        loss.backward()
        return known | {"states": states, "loss": loss.reshape(1)} | gradients(model)
    output.loss.backward()
    return known | {"logits": output.logits, "loss": output.loss.reshape(1)} | gradients(model)


def greedy(model, source):
    # Its cache is for as many blocks as the encoder has.
    return source[0], model.generate(source, max_new_tokens=24, do_sample=False, use_cache=False)[0, 1:]


def pair_reference(model, dice, length: int) -> dict:
    """The same of a model with an encoder: rows are a source and, behind it, what the decoder reads; logits are the decoder's."""
    source = length + 4
    ids, labels = dice.integers(model.config.vocab_size, 2, source), dice.integers(model.config.vocab_size, 2, length)
    output = model(input_ids=ids, labels=labels, use_cache=False)
    output.loss.backward()
    asked, said = max((greedy(model, dice.integers(model.config.vocab_size, 1, 9)) for _ in range(12)), key=lambda pair: len(set(pair[1].tolist())))
    read = torch.cat([torch.full((2, 1), model.config.decoder_start_token_id), labels[:, :-1]], 1)
    return {
        "input_ids": torch.cat([ids, read], 1), "targets": torch.cat([torch.full_like(ids, -1), labels], 1),
        "source_length": torch.tensor([source]), "greedy_source": asked, "greedy": said, "logits": output.logits, "loss": output.loss.reshape(1),
    } | gradients(model)


def tower(config):
    """The configuration of the part that sees pictures, in a model of several parts."""
    return getattr(config, "vision_config", config)


def two_pictures(dice, channels: int, side: int, patch: int, own: int):
    """Two pictures, and the same as a model here gets them: `patches` [2 x patches, values], and `input_ids` that number them, below 0 the model's own tokens."""
    pictures = dice.normal(2, channels, side, side).float()
    # [2, channels, rows, patch, columns, patch] -> [2, rows, columns, channels, patch, patch]
    cut = pictures.reshape(2, channels, side // patch, patch, side // patch, patch).permute(0, 2, 4, 1, 3, 5)
    patches = cut.reshape(2 * (side // patch) ** 2, -1)
    count = patches.shape[0] // 2
    rows = [[-1 - n for n in range(own)] + list(range(first, first + count)) for first in (0, count)]
    return pictures, {"input_ids": torch.tensor(rows), "patches": patches}


def picture_reference(model, dice) -> dict:
    """The same of a model of pictures."""
    config = tower(model.config)
    own = 2 if config.model_type == "deit" else 1
    pictures, shared = two_pictures(dice, config.num_channels, config.image_size, config.patch_size, own)
    targets = torch.full_like(shared["input_ids"], -1)
    if type(model).__name__.endswith("ForImageClassification"):
        labels = dice.integers(model.config.num_labels, 2)
        targets[:, 0] = labels
        output = model(pixel_values=pictures, labels=labels)
        output.loss.backward()
        return shared | {"targets": targets, "logits": output.logits, "loss": output.loss.reshape(1)} | gradients(model)
    # Of a whole CLIP the tower alone.
    seeing = model.vision_model if model.config.model_type == "clip" else model
    states = seeing(pixel_values=pictures).last_hidden_state
    loss = states.square().mean()
    loss.backward()
    return shared | {"targets": targets, "states": states, "loss": loss.reshape(1)} | gradients(model)


def gradients(model) -> dict:
    def stored(name: str) -> str:
        for pattern, replacement in STORED.get(model.config.model_type, {}).items():
            name = re.sub(pattern, replacement, name)
        return name

    return {f"gradient.{stored(name)}": p.grad for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=19)
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind = getattr(transformers, AutoConfig.from_pretrained(options.model).architectures[0])
    model = kind.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager").eval()
    write_tensors(options.model / "reference.safetensors", reference(model, options.seed, options.length, options.pairs))


if __name__ == "__main__":
    main()
