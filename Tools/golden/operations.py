"""Golden files for single operations: forward and backward.

Writes Tests/ParityTests/Golden/operations/<case>.safetensors and <case>.json. Computed in float64 from inputs that are
exact in float32, stored as float32. In each case: the inputs, `output`, the upstream gradient `grad_output`, and
`grad_<input>` for every input that has one. Activations are rows: [B*T, width], row b*T + t.
"""

import math

import torch
import torch.nn.functional as F

from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors

SEED = 20231017
FOLDER = GOLDEN / "operations"


def case(name, inputs, output, dice, facts, extra=None):
    """Backpropagates a random upstream gradient through `output` and writes the case."""
    grad_output = dice.normal(*output.shape, grad=False)
    trainable = {k: v for k, v in inputs.items() if v.requires_grad}
    gradients = torch.autograd.grad(output, list(trainable.values()), grad_output)
    tensors = dict(inputs) | {"output": output, "grad_output": grad_output} | (extra or {})
    tensors |= {f"grad_{k}": g for k, g in zip(trainable, gradients)}
    write_tensors(FOLDER / f"{name}.safetensors", tensors)
    write_json(FOLDER / f"{name}.json", facts)


def embedding(dice):
    B, T, V, P, d = 2, 9, 13, 16, 12
    ids = dice.integers(V, B, T)
    ids[0, 3] = ids[0, 1] = ids[1, 2] = ids[1, 8] = 5  # a token that comes up several times
    weight = dice.normal(V, d)
    rows = F.embedding(ids, weight).reshape(B * T, d)
    facts = {"batch": B, "tokens": T, "ids": ids.tolist()}
    as_float = {"ids": ids}
    case("embedding", {"weight": weight}, rows, dice, facts, as_float)

    weight, positions = dice.normal(V, d), dice.normal(P, d)
    start = 3
    for name, offset in (("embedding_positions", 0), ("embedding_positions_offset", start)):
        at = torch.arange(offset, offset + T)
        rows = (F.embedding(ids, weight) + F.embedding(at, positions)[None]).reshape(B * T, d)
        case(
            name,
            {"weight": weight, "positions": positions},
            rows,
            dice,
            facts | {"firstPosition": offset},
            as_float,
        )


def norms(dice):
    rows, d = 11, 52
    x, weight = dice.normal(rows, d, scale=1.7, mean=0.3), dice.normal(d, scale=0.2, mean=1)
    eps = 1e-5
    output = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
    case("rms_norm", {"x": x, "weight": weight}, output, dice, {"epsilon": eps})

    # Rows so small that epsilon decides.
    x = dice.normal(rows, d, scale=2e-3)
    output = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
    case("rms_norm_small", {"x": x, "weight": weight}, output, dice, {"epsilon": eps})

    x, weight = dice.normal(rows, d, scale=1.7, mean=0.8), dice.normal(d, scale=0.2, mean=1)
    bias = dice.normal(d, scale=0.3)
    output = F.layer_norm(x, (d,), weight, bias, eps)
    case("layer_norm", {"x": x, "weight": weight, "bias": bias}, output, dice, {"epsilon": eps})


def linears(dice):
    rows, i, o = 19, 29, 43  # none a multiple of 8
    x, bias, residual = dice.normal(rows, i), dice.normal(o, scale=0.5), dice.normal(rows, o)
    weight = dice.normal(o, i, scale=i**-0.5)
    case("linear_plain", {"x": x, "weight": weight}, x @ weight.T, dice, {"layout": "[out, in]"})
    case(
        "linear",
        {"x": x, "weight": weight, "bias": bias, "residual": residual},
        x @ weight.T + bias + residual,
        dice,
        {"layout": "[out, in]"},
    )
    conv = dice.normal(i, o, scale=i**-0.5)
    case(
        "linear_conv1d",
        {"x": x, "weight": conv, "bias": bias, "residual": residual},
        x @ conv + bias + residual,
        dice,
        {"layout": "[in, out]"},
    )
    for r in (4, 8):
        a, b = dice.normal(r, i, scale=i**-0.5), dice.normal(o, r, scale=0.3)
        scale = 16 / r
        facts = {"rank": r, "alpha": 16, "scale": scale}
        inputs = {"x": x, "bias": bias, "residual": residual, "a": a, "b": b}
        case(
            f"linear_lora_r{r}",
            inputs | {"weight": weight},
            x @ weight.T + bias + scale * (x @ a.T) @ b.T + residual,
            dice,
            facts | {"layout": "[out, in]"},
        )
        case(
            f"linear_lora_conv1d_r{r}",
            inputs | {"weight": conv},
            x @ conv + bias + scale * (x @ a.T) @ b.T + residual,
            dice,
            facts | {"layout": "[in, out]"},
        )


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rotate(rows, batch, tokens, heads, theta, first):
    """Rotary embedding of rows [B*T, heads*D] as Hugging Face's Llama does it (halves, not neighbours)."""
    x = rows.reshape(batch, tokens, heads, -1)
    D = x.shape[-1]
    frequency = theta ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    angle = torch.arange(first, first + tokens, dtype=torch.float64)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)[None, :, None, :]  # [1, T, 1, D]
    return (x * angle.cos() + rotate_half(x) * angle.sin()).reshape(rows.shape)


def rotary(dice):
    B, T, H, D = 2, 21, 3, 16
    for name, first, theta in (
        ("rotary", 0, 10_000.0),
        ("rotary_offset", 37, 10_000.0),
        ("rotary_theta", 0, 500.0),
    ):
        x = dice.normal(B * T, H * D)
        facts = {"batch": B, "tokens": T, "heads": H, "headWidth": D}
        facts |= {"theta": theta, "firstPosition": first}
        case(name, {"x": x}, rotate(x, B, T, H, theta, first), dice, facts)


def attend(q, k, v, B, T, S, H, G, D):
    q = q.reshape(B, T, H, D).transpose(1, 2)
    k = k.reshape(B, S, G, D).transpose(1, 2).repeat_interleave(H // G, dim=1)
    v = v.reshape(B, S, G, D).transpose(1, 2).repeat_interleave(H // G, dim=1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(D)
    query, key = torch.arange(S - T, S)[:, None], torch.arange(S)[None]
    scores = scores.masked_fill(key > query, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(B * T, H * D)


def attention(dice):
    H, D = 6, 16
    for name, B, T, S, G in (
        ("attention_t37", 2, 37, 37, 2),
        ("attention_t130", 2, 130, 130, 2),
        ("attention_all_heads", 2, 9, 9, 6),
        ("attention_one_token", 2, 1, 1, 2),
        ("attention_cached", 2, 5, 23, 2),  # the last 5 of 23 positions ask, as with a key/value cache
    ):
        q = dice.normal(B * T, H * D, scale=1.5)
        k, v = dice.normal(B * S, G * D, scale=1.5), dice.normal(B * S, G * D)
        facts = {"batch": B, "queries": T, "keys": S, "heads": H, "keyValueHeads": G, "headWidth": D}
        facts |= {"scale": D**-0.5, "firstPosition": S - T}
        output = attend(q, k, v, B, T, S, H, G, D)
        case(name, {"q": q, "k": k, "v": v}, output, dice, facts)


def activations(dice):
    rows, d = 7, 45
    x = dice.normal(rows, d, scale=2.5)
    with torch.no_grad():
        x[0, :12] = torch.tensor([0, -0.0, 1e-4, -1e-4, 6, -6, 12, -12, 30, -30, 90, -90], dtype=x.dtype)
    case("gelu_tanh", {"x": x}, F.gelu(x, approximate="tanh"), dice, {"form": "tanh (gelu_new)"})
    case("gelu_exact", {"x": x}, F.gelu(x), dice, {"form": "erf"})
    gate, up = x.detach().clone().requires_grad_(), dice.normal(rows, d)
    case("swiglu", {"gate": gate, "up": up}, F.silu(gate) * up, dice, {"form": "silu(gate) * up"})


def linear_cross_entropy(dice):
    rows, d, V = 53, 24, 101
    x, weight = dice.normal(rows, d), dice.normal(V, d, scale=0.5)
    targets = dice.integers(V, rows)
    targets[[0, 7, 8, 30, 52]] = -100
    for name, to in (
        ("linear_cross_entropy", targets),
        ("linear_cross_entropy_all", targets.clamp(min=0)),
    ):
        logits = x @ weight.T
        losses = F.cross_entropy(logits, to, reduction="none", ignore_index=-100)
        loss = F.cross_entropy(logits, to, ignore_index=-100)
        grad_x, grad_weight = torch.autograd.grad(loss, [x, weight])
        write_tensors(
            FOLDER / f"{name}.safetensors",
            {
                "x": x,
                "weight": weight,
                "targets": to,
                "logits": logits,
                "losses": losses,
                "output": loss.reshape(1),
                "grad_output": torch.ones(1),
                "grad_x": grad_x,
                "grad_weight": grad_weight,
            },
        )
        facts = {"targets": to.tolist(), "ignored": -100, "counted": int((to != -100).sum())}
        facts |= {"loss": loss.item(), "reduction": "mean over the counted rows"}
        write_json(FOLDER / f"{name}.json", facts)


def adamw(dice):
    """Three steps; gradients of very different sizes, so that epsilon matters for some."""
    shapes = {"w": (7, 5), "b": (5,)}
    start = {k: dice.normal(*s, grad=False) for k, s in shapes.items()}
    sizes = {k: 10 ** dice.normal(*s, scale=3, mean=-3, grad=False) for k, s in shapes.items()}
    steps = [
        {k: (dice.normal(*s, grad=False) * sizes[k]).float().double() for k, s in shapes.items()}
        for _ in range(3)
    ]
    for name, decay in (("adamw", 0.0), ("adamw_decay", 0.1)):
        parameters = {k: v.clone().requires_grad_() for k, v in start.items()}
        optimizer = torch.optim.AdamW(parameters.values(), lr=3e-2, weight_decay=decay)
        tensors = {f"start.{k}": v for k, v in start.items()}
        for number, gradients in enumerate(steps, 1):
            for k, p in parameters.items():
                p.grad = gradients[k].clone()
                tensors[f"step{number}.grad_{k}"] = gradients[k]
            optimizer.step()
            for k, p in parameters.items():
                tensors[f"step{number}.{k}"] = p.detach().clone()
                tensors[f"step{number}.mean_{k}"] = optimizer.state[p]["exp_avg"].clone()
                tensors[f"step{number}.square_{k}"] = optimizer.state[p]["exp_avg_sq"].clone()
        write_tensors(FOLDER / f"{name}.safetensors", tensors)
        facts = {"learningRate": 3e-2, "betas": [0.9, 0.999], "epsilon": 1e-8}
        write_json(FOLDER / f"{name}.json", facts | {"weightDecay": decay, "steps": 3})


def clipping(dice):
    gradients = {"w": dice.normal(7, 5, grad=False), "b": dice.normal(5, scale=3, grad=False)}
    tensors = {f"grad_{k}": g for k, g in gradients.items()}
    facts = {"form": "gradient * min(1, maximum / (norm + 1e-6)), norm over all tensors", "cases": []}
    for maximum in (1.0, 100.0):
        parameters = {k: torch.zeros_like(g).requires_grad_() for k, g in gradients.items()}
        for k, p in parameters.items():
            p.grad = gradients[k].clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), maximum)
        label = f"maximum{int(maximum)}"
        tensors |= {f"{label}.grad_{k}": p.grad for k, p in parameters.items()}
        facts["cases"].append({"prefix": label, "maximum": maximum, "norm": norm.item()})
    write_tensors(FOLDER / "clip_gradients.safetensors", tensors)
    write_json(FOLDER / "clip_gradients.json", facts)


def schedules():
    """The rate that each of 20 steps uses: the first entry is that of the first step."""
    from transformers import get_scheduler

    rate, steps = 3e-3, 20
    cases = []
    for name, label, warm in (
        ("constant", "constant", 0),
        ("constant_with_warmup", "constant", 5),
        ("linear", "linear", 0),
        ("linear", "linear", 5),
        ("cosine", "cosine", 0),
        ("cosine", "cosine", 5),
    ):
        parameter = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([parameter], lr=rate)
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=steps)
        rates = []
        for _ in range(steps):
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        cases.append({"schedule": label, "transformersName": name, "warmUpSteps": warm, "rates": rates})
    write_json(FOLDER / "schedules.json", {"learningRate": rate, "steps": steps, "cases": cases})


def main():
    torch.set_num_threads(1)
    for number, make in enumerate(
        (embedding, norms, linears, rotary, attention, activations, linear_cross_entropy, adamw, clipping)
    ):
        make(Dice(SEED + number))  # a stream each, so that a new case leaves the others as they are
    schedules()
    write_manifest(FOLDER, "operations.py", SEED, computedIn="float64", storedAs="float32")


if __name__ == "__main__":
    main()
