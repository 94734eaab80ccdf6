"""PyTorch's figures for tuning stories260K on tinyshakespeare: Tests/ParityTests/Reference/tinyshakespeare.json.

Five seeds; median and range of each case. Takes about a quarter of an hour on one thread.

    nice python reference_protocol.py
"""

import copy
import sys

import torch

from golden import REFERENCE, versions, write_json
from shakespeare import (
    PROTOCOL,
    WINDOW,
    keeping,
    load_model,
    perplexity,
    plugged_lora,
    read_text,
    renumber,
    summary,
    tokens_of,
    tune,
    windows,
    with_lora,
)

SEEDS = [0, 1, 2, 3, 4]
STEPS, BATCH = 100, 8
RATES = {"fullFineTuning": 1e-3, "lora": 3e-3, "endBlocks": 1e-3}
EMULATORS = {"1-2-1": [0, 1, 3, 4], "1-1-1": [0, 2, 4]}
ALL, ENDS = [0, 1, 2, 3, 4], [0, 4]


def end_blocks_of(model):
    last = model.config.num_hidden_layers - 1
    model.requires_grad_(False)
    for number in (0, last):
        model.model.layers[number].requires_grad_(True)
    return {
        name: value
        for name, value in model.named_parameters()
        if name.startswith(("model.layers.0.", f"model.layers.{last}."))
    }


def run_seed(full, train, test, seed, note):
    def batches():
        return windows(train, seed, BATCH, STEPS)

    model = copy.deepcopy(full)
    tune(model, batches(), RATES["fullFineTuning"])
    note("fullFineTuning", perplexity(model, test))

    for name, kept in EMULATORS.items():
        last = len(kept) - 1
        model = with_lora(keeping(full, kept), seed, [0, last])
        tune(model, batches(), RATES["lora"])
        note(f"lora.{name}.emulatorTuned", perplexity(model, test))
        note(f"lora.{name}.plugIn", perplexity(plugged_lora(full, model, kept, ENDS), test))

        model = keeping(full, kept)
        ends = end_blocks_of(model)
        tune(model, batches(), RATES["endBlocks"])
        note(f"endBlocks.{name}.emulatorTuned", perplexity(model, test))
        plugged = copy.deepcopy(full)
        result = plugged.load_state_dict(renumber(ends, dict(enumerate(kept))), strict=False)
        assert not result.unexpected_keys
        note(f"endBlocks.{name}.plugIn", perplexity(plugged, test))

    model = with_lora(copy.deepcopy(full), seed, ENDS)
    tune(model, batches(), RATES["lora"])
    note("lora.endBlocksThroughFullMiddle", perplexity(model, test))

    model = copy.deepcopy(full)
    end_blocks_of(model)
    tune(model, batches(), RATES["endBlocks"])
    note("endBlocks.endBlocksThroughFullMiddle", perplexity(model, test))

    model = with_lora(copy.deepcopy(full), seed, ALL)
    tune(model, batches(), RATES["lora"])
    note("lora.fullModelAdapter", perplexity(model, test))


def main():
    torch.set_num_threads(1)
    text = read_text()
    train, test = tokens_of(text[:400_000]), tokens_of(text[-60_000:])
    full = load_model()
    zero = {"fullZeroShot": perplexity(full, test)}
    # Without the last, shorter window: the figure of whoever drops it.
    zero["fullZeroShotWholeWindowsOnly"] = perplexity(full, test[: (len(test) - 1) // WINDOW * WINDOW + 1])
    for name, kept in EMULATORS.items():
        zero[f"emulatorZeroShot.{name}"] = perplexity(keeping(full, kept), test)
    print(zero, file=sys.stderr, flush=True)

    results = {}
    for seed in SEEDS:

        def note(case, value):
            results.setdefault(case, []).append(value)
            print(f"seed {seed}: {case} {value:.3f}", file=sys.stderr, flush=True)

        run_seed(full, train, test, seed, note)

    write_json(
        REFERENCE / "tinyshakespeare.json",
        {
            "generator": "Tools/golden/reference_protocol.py",
            "versions": versions(),
            "about": "Perplexity on held-out text, lower is better. emulatorTuned: the adapter in the emulator it was tuned "
            "on; plugIn: the same adapter in the full model, where the emulator's last block is the full model's last; "
            "endBlocksThroughFullMiddle: tuned without compression, the ceiling of plugIn; fullModelAdapter: LoRA on all "
            "five blocks. 'lora' is LoRA on all seven projections of the first and last block; 'endBlocks' is every "
            "weight of the first and last block. Zero-shot figures do not depend on the seed; "
            "fullZeroShotWholeWindowsOnly leaves out the last, shorter window, and shows how much that moves a figure.",
            "protocol": PROTOCOL
            | {
                "train": "first 400,000 characters",
                "test": "last 60,000 characters",
                "steps": STEPS,
                "batch": BATCH,
                "learningRates": RATES,
                "emulators": EMULATORS,
            },
            "seeds": SEEDS,
            "trainTokens": len(train),
            "testTokens": len(test),
            "zeroShot": zero,
            "cases": {case: summary(values) for case, values in results.items()},
        },
    )


if __name__ == "__main__":
    main()
