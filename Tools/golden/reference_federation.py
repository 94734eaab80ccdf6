"""PyTorch's figures for one adapter tuned by eight speakers, pooled and federated.

Writes Tests/ParityTests/Reference/federation.json; for orientation, not for parity. Takes about a quarter of an hour on
one thread.

    nice python reference_federation.py
"""

import copy
import sys

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from golden import REFERENCE, versions, write_json
from shakespeare import (
    PROTOCOL,
    keeping,
    load_model,
    perplexity,
    plugged_lora,
    read_text,
    summary,
    tokens_of,
    tune,
    windows,
    with_lora,
)

SEEDS = [0, 1, 2]
SPEAKERS, CLIENTS, ROUNDS, LOCAL_STEPS, BATCH = 8, 4, 10, 10, 8
RATE, FULL_RATE = 3e-3, 1e-3
KEPT, ENDS = [0, 1, 3, 4], [0, 4]


def speeches(text):
    """Speaker -> all of the speaker's speeches, each as it stands: the name, a colon, the lines, an empty line."""
    by_speaker = {}
    for paragraph in text.split("\n\n"):
        speaker, colon, lines = paragraph.strip("\n").partition(":\n")
        if colon and lines:
            by_speaker.setdefault(speaker, []).append(f"{speaker}:\n{lines}\n\n")
    return {speaker: "".join(parts) for speaker, parts in by_speaker.items()}


def split_speakers():
    """The largest speakers outside the test text: (name, training tokens, held-out tokens) of each."""
    texts = speeches(read_text()[:-60_000])
    largest = sorted(texts, key=lambda s: (-len(texts[s]), s))[:SPEAKERS]
    result = []
    for speaker in largest:
        cut = len(texts[speaker]) * 9 // 10
        result.append((speaker, tokens_of(texts[speaker][:cut]), tokens_of(texts[speaker][cut:])))
    return result


def federated(full, parts, seed, keep_state):
    """FedAvg over the clients' adapters, each client with 10 steps a round on its own two speakers."""
    last = len(KEPT) - 1
    clients = [with_lora(keeping(full, KEPT), seed, [0, last]) for _ in parts]
    optimizers = [None] * len(parts)
    shared = {k: v.detach().clone() for k, v in get_peft_model_state_dict(clients[0]).items()}
    streams = [
        list(windows(tokens, 1000 * seed + n, BATCH, ROUNDS * LOCAL_STEPS)) for n, tokens in enumerate(parts)
    ]
    for round_number in range(ROUNDS):
        updates = []
        for n, model in enumerate(clients):
            set_peft_model_state_dict(model, shared)
            first = round_number * LOCAL_STEPS
            batches = streams[n][first : first + LOCAL_STEPS]
            _, optimizer = tune(model, batches, RATE, optimizers[n])
            optimizers[n] = optimizer if keep_state else None
            updates.append({k: v.detach().clone() for k, v in get_peft_model_state_dict(model).items()})
        # Every client has seen as many examples, so the weighted mean is the plain one.
        shared = {k: torch.stack([u[k] for u in updates]).mean(0) for k in shared}
    set_peft_model_state_dict(clients[0], shared)
    return clients[0]


def main():
    torch.set_num_threads(1)
    speakers = split_speakers()
    parts = [torch.cat([speakers[i][1] for i in range(n, SPEAKERS, CLIENTS)]) for n in range(CLIENTS)]
    pooled = torch.cat([train for _, train, _ in speakers])
    # One stream: at a border between speakers the next one's first token is predicted too (7 of thousands).
    tests = {
        "lastPlays": tokens_of(read_text()[-60_000:]),
        "speakersHeldOut": torch.cat([held_out for _, _, held_out in speakers]),
    }
    full = load_model()
    last = len(KEPT) - 1
    results = {}

    def note(case, model):
        for name, tokens in tests.items():
            value = perplexity(model, tokens)
            results.setdefault(name, {}).setdefault(case, []).append(value)
            print(f"{name}: {case} {value:.3f}", file=sys.stderr, flush=True)

    note("fullZeroShot", full)
    note("emulatorZeroShot", keeping(full, KEPT))
    for seed in SEEDS:
        for label, batch in (("centralBatch32", BATCH * CLIENTS), ("centralBatch8", BATCH)):
            model = with_lora(keeping(full, KEPT), seed, [0, last])
            tune(model, windows(pooled, seed, batch, ROUNDS * LOCAL_STEPS), RATE)
            note(f"{label}.emulatorTuned", model)
            note(f"{label}.plugIn", plugged_lora(full, model, KEPT, ENDS))
        for label, keep in (("fedAvg", False), ("fedAvgKeepingOptimizerState", True)):
            model = federated(full, parts, seed, keep)
            note(f"{label}.emulatorTuned", model)
            note(f"{label}.plugIn", plugged_lora(full, model, KEPT, ENDS))
        model = copy.deepcopy(full)
        tune(model, windows(pooled, seed, BATCH * CLIENTS, ROUNDS * LOCAL_STEPS), FULL_RATE)
        note("fullFineTuningBatch32", model)

    write_json(
        REFERENCE / "federation.json",
        {
            "generator": "Tools/golden/reference_federation.py",
            "versions": versions(),
            "about": "Perplexity, lower is better. The same LoRA adapter on the first and last block, tuned through the "
            "emulator 1-2-1 (blocks 0, 1, 3, 4): centrally on the pooled texts of eight speakers, and by FedAvg over four "
            "clients of two speakers each (speaker i at client i mod 4, in order of size). For orientation.",
            "protocol": PROTOCOL
            | {
                "train": "the first nine tenths of the characters of each speaker's text; speakers are the eight with most "
                "text outside the last 60,000 characters of the corpus; a speech is a paragraph that begins with a line "
                "ending in a colon, and keeps that line",
                "tests": {
                    "lastPlays": "the last 60,000 characters of the corpus",
                    "speakersHeldOut": "the last tenth of each speaker's text, one after the other",
                },
                "training": "windows of 257 tokens, start positions uniform over the client's (or the pooled) tokens",
                "central": f"{ROUNDS * LOCAL_STEPS} steps of {BATCH * CLIENTS} or {BATCH} windows",
                "federated": f"{ROUNDS} rounds of {LOCAL_STEPS} local steps of {BATCH} windows at each of {CLIENTS} clients; "
                "the mean of the adapters' values; 'fedAvg' starts AdamW afresh in every round, "
                "'fedAvgKeepingOptimizerState' keeps each client's moments",
                "learningRates": {"lora": RATE, "fullFineTuning": FULL_RATE},
            },
            "seeds": SEEDS,
            "speakers": [
                {"name": s, "trainTokens": len(a), "heldOutTokens": len(b)} for s, a, b in speakers
            ],
            "perplexity": {
                name: {
                    case: values[0] if "ZeroShot" in case else summary(values) for case, values in cases.items()
                }
                for name, cases in results.items()
            },
        },
    )


if __name__ == "__main__":
    main()
