"""Ten optimizer steps on the tiny checkpoints: Tests/ParityTests/Golden/trajectories/<model>-<what>.{json,safetensors}.

Run after checkpoints.py. One batch of token ids per step, the same for every case (batches.json: [10][2][19]); each
token predicts the next, loss is the mean over 2 x 18. What is tuned:

- `lora`, `lora-zero`: LoRA of rank 4, alpha 8 on all linear modules of the first and last block through PEFT. B starts
  at random values in `lora`, at zero in `lora-zero`. Start in the tensors `start.<name>`, names as in an adapter file.
- `full`: every weight, head and embedding tied.
- `ends`: the weights of the first and last block.

Runs of a case differ in the optimizer: `plain` (rate 1e-2), `slow` (1e-3), `decay` (1e-2, weight decay 0.1), `clip`
(1e-2, gradients clipped to a norm of 1). The JSON has each run's losses (before each step) and, for `clip`, the norms
before clipping. The tensors: `gradient.<name>` of step 1 (the same in every run, before clipping) and `final.<name>`
after the ten steps of the run named by `finalRun`. To stay small, `full` keeps only first and last block and what lies
outside the blocks; `ends` keeps no gradients, as they are those of `full`. Computed in float32; the same in float64
differs by at most 5e-7 in a loss, 3e-6 in a gradient and 3e-5 in a final tensor (largest difference over largest value).

One exception, listed as `undetermined` {name: [first, end)}: the gradient of the keys' part of GPT-2's `c_attn.bias` is
zero in exact arithmetic (it moves all scores of a query alike), and AdamW turns its rounding noise into steps of up to
the rate. These elements of `final` carry no meaning, and no weight in the model's output.

Likewise `sensitive` {name: [index, ...]}: single elements whose gradient nearly vanishes in some step, so that AdamW takes a
step whose direction is rounding noise. What counts is measured: PyTorch itself, started from weights that differ by half of
their last digit (12 seeds, float64 as the reference), moves the element by more than half of the 1e-4 of the tensor's norm
that a comparison allows for all elements together.
"""

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors

SEED = 777
FOLDER = GOLDEN / "trajectories"
STEPS, VOCABULARY = 10, 97
RUNS = {
    "plain": {"learningRate": 1e-2, "weightDecay": 0.0, "maximumNorm": None},
    "slow": {"learningRate": 1e-3, "weightDecay": 0.0, "maximumNorm": None},
    "decay": {"learningRate": 1e-2, "weightDecay": 0.1, "maximumNorm": None},
    "clip": {"learningRate": 1e-2, "weightDecay": 0.0, "maximumNorm": 1.0},
}
TARGETS = {
    "llama-tiny": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2-tiny": ["c_attn", "c_proj", "c_fc"],  # c_proj is both attention's and the MLP's
}


def load(name):
    # eval(): the configuration of GPT-2 has dropout, which no golden file wants.
    folder = GOLDEN / "checkpoints" / name
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def ends_of(model):
    last = model.config.num_hidden_layers - 1
    return tuple(f"{prefix}.{n}." for prefix in ("model.layers", "transformer.h") for n in (0, last))


def is_middle(model, name):
    return (".layers." in name or ".h." in name) and not name.startswith(ends_of(model))


def lora(name, random_b):
    model = load(name)
    torch.manual_seed(SEED)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules=TARGETS[name],
        layers_to_transform=[0, model.config.num_hidden_layers - 1],
        fan_in_fan_out=name.startswith("gpt2"),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config).eval()
    if random_b:
        dice = Dice(SEED + 1)
        with torch.no_grad():
            for key, p in sorted(model.named_parameters()):
                if "lora_B" in key:
                    p.copy_(dice.normal(*p.shape, scale=0.15))
    trained = {k.replace(".default", ""): p for k, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == get_peft_model_state_dict(model).keys()
    return model, trained


def full(name):
    model = load(name)
    return model, dict(model.named_parameters())


def ends(name):
    model = load(name)
    model.requires_grad_(False)
    trained = {k: p for k, p in model.named_parameters() if k.startswith(ends_of(model))}
    for p in trained.values():
        p.requires_grad_(True)
    return model, trained


def run(build, batches, learningRate, weightDecay, maximumNorm):
    model, trained = build()
    start = {k: p.detach().clone() for k, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=learningRate, weight_decay=weightDecay)
    losses, norms, gradients = [], [], None
    for ids in batches:
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        gradients = gradients or {k: p.grad.clone() for k, p in trained.items()}
        if maximumNorm:
            norms.append(torch.nn.utils.clip_grad_norm_(trained.values(), maximumNorm).item())
        optimizer.step()
        losses.append(loss.item())
    final = {k: p.detach().clone() for k, p in trained.items()}
    return losses, norms, start, gradients, final


def sensitive(build, batches, settings):
    """Elements that PyTorch's own rounding decides on: {name: [index, ...]}."""

    def perturbed(seed):
        model, trained = build()
        dice = Dice(SEED + seed)
        with torch.no_grad():
            for _, p in sorted(trained.items()):
                p.mul_(1 + 6e-8 * dice.normal(*p.shape))
        return model, trained

    def exact():
        model, trained = build()
        model.double()
        return model, trained

    reference = run(exact, batches, **settings)[4]
    moved = {k: torch.zeros_like(v) for k, v in reference.items()}
    for seed in range(12):
        final = run(lambda: perturbed(seed), batches, **settings)[4]
        for k, v in final.items():
            moved[k] = torch.maximum(moved[k], (v.double() - reference[k]).abs())
    found = {k: (m > 0.5e-4 * reference[k].norm()).flatten().nonzero().flatten().tolist() for k, m in moved.items()}
    return {k: v for k, v in found.items() if v and not k.endswith("c_attn.bias")}


def case(name, what, build, batches, final_run):
    facts, tensors = {"model": f"checkpoints/{name}", "tuned": what, "finalRun": final_run, "runs": {}}, {}
    middle = [k for k in build()[1] if what == "full" and is_middle(load(name), k)]
    for label, settings in RUNS.items():
        losses, norms, start, gradients, final = run(build, batches, **settings)
        facts["runs"][label] = settings | {"losses": losses} | ({"norms": norms} if norms else {})
        if label == final_run:
            tensors |= {f"final.{k}": v for k, v in final.items() if k not in middle}
            if what != "ends":
                tensors |= {f"gradient.{k}": v for k, v in gradients.items() if k not in middle}
            if "lora" in what:
                tensors |= {f"start.{k}": v for k, v in start.items()}
                facts |= {"rank": 4, "alpha": 8, "targetModules": TARGETS[name]}
    width = load(name).config.hidden_size
    biases = [k for k in final if k.endswith("c_attn.bias") and k not in middle]
    facts["undetermined"] = {k: [width, 2 * width] for k in biases}
    facts["sensitive"] = sensitive(build, batches, RUNS[final_run])
    facts["trainedParameters"] = sum(v.numel() for v in final.values())
    write_tensors(FOLDER / f"{name}-{what}.safetensors", tensors)
    write_json(FOLDER / f"{name}-{what}.json", facts)
    print(name, what, facts["sensitive"], {k: (r["losses"][0], r["losses"][-1]) for k, r in facts["runs"].items()})


def main():
    torch.set_num_threads(1)
    dice = Dice(SEED)
    batches = [dice.integers(VOCABULARY, 2, 19) for _ in range(STEPS)]
    for later in batches[1:]:
        later[:] = torch.where(dice.integers(4, 2, 19) > 0, batches[0], later)  # alike, so that the loss falls
    write_json(FOLDER / "batches.json", {"inputIDs": [b.tolist() for b in batches]})
    for name in TARGETS:
        case(name, "lora", lambda: lora(name, True), batches, "decay")
        case(name, "lora-zero", lambda: lora(name, False), batches, "plain")
        case(name, "full", lambda: full(name), batches, "slow")
        case(name, "ends", lambda: ends(name), batches, "clip")
    write_manifest(FOLDER, "trajectories.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
