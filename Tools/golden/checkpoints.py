"""Tiny random checkpoints in Hugging Face's layout, and what transformers computes from them.

Writes Tests/ParityTests/Golden/checkpoints/<name>/: config.json and *.safetensors as `save_pretrained` writes them, and

- expected.safetensors: `input_ids` [2, 19] (as F32), `logits` [2, 19, V], `loss`, `hidden.0` (the embedding's output),
  `hidden.N` (the output of block N - 1, before any later norm), `hidden.final` (after the last norm); no hidden
  states for the 16-bit checkpoints;
- expected.json: the same ids, the loss (each token predicts the next, mean over 2 x 18), and greedy continuations
  (up to 20 tokens, no stop at an end token) with the smallest gap between the best and the second-best logit.

Computed in float32 as transformers does (eager attention). For the 16-bit checkpoints the stored 16-bit weights are
read as float32 and everything is computed in float32.
"""

import shutil

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from golden import GOLDEN, Dice, write_json, write_manifest, write_tensors

SEED = 4242
FOLDER = GOLDEN / "checkpoints"
VOCABULARY = 97


def llama(blocks, tied):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=blocks,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rms_norm_eps=3e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
            tie_word_embeddings=tied,
        )
    )


def gpt2(blocks):
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=64,
            n_embd=32,
            n_layer=blocks,
            n_head=4,
            n_inner=88,
            layer_norm_epsilon=2e-5,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def scatter(model, seed):
    """Weights that make every part matter: norms around 1, biases away from 0, matrices that keep the size of x."""
    dice = Dice(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            vector, norm = p.ndim == 1, "norm" in name or ".ln_" in name
            if vector and name.endswith("weight") and norm:
                value = dice.normal(*p.shape, scale=0.2, mean=1)
            elif vector:
                value = dice.normal(*p.shape, scale=0.1)
            elif "embed" in name or "wte" in name or "lm_head" in name:
                value = dice.normal(*p.shape, scale=0.25)
            elif "wpe" in name:
                value = dice.normal(*p.shape, scale=0.3)
            else:
                value = dice.normal(*p.shape, scale=1.2 * 32**-0.5)
            p.copy_(value)
    return model.eval()


def hidden_states(model, ids):
    """The model's output for the ids, with the embedding's, every block's and the last norm's output."""
    decoder = model.model if hasattr(model, "model") else model.transformer
    blocks = decoder.layers if hasattr(decoder, "layers") else decoder.h
    norm = decoder.norm if hasattr(decoder, "norm") else decoder.ln_f
    seen, hooks = {}, []

    def first(value):
        return value[0] if isinstance(value, tuple) else value

    def keep(name):
        return lambda _, __, output: seen.__setitem__(name, first(output).detach().clone())

    hooks.append(
        blocks[0].register_forward_pre_hook(lambda _, given: seen.__setitem__("hidden.0", given[0].detach().clone()))
    )
    hooks += [block.register_forward_hook(keep(f"hidden.{n}")) for n, block in enumerate(blocks, 1)]
    hooks.append(norm.register_forward_hook(keep("hidden.final")))
    output = model(input_ids=ids, labels=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return output, seen


def greedy(model, prompt, count):
    """Token by token over the whole text, no cache; with the smallest lead of the best logit."""
    ids, lead = list(prompt), float("inf")
    for _ in range(count):
        best = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return {"prompt": list(prompt), "continuation": ids[len(prompt) :], "smallestLead": lead}


def write(name, model, dtype=torch.float32, **saving):
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, **saving)
    (folder / "generation_config.json").unlink(missing_ok=True)  # names the version again and nothing else
    for file in folder.iterdir():
        file.chmod(0o644)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = Dice(SEED + 1).integers(VOCABULARY, 2, 19)
    with torch.no_grad():
        output, hidden = hidden_states(model, ids)
        texts = [greedy(model, [1], 20), greedy(model, ids[0, :7].tolist(), 20)]
    assert min(t["smallestLead"] for t in texts) > 1e-3, f"{name}: greedy text hangs on rounding, {texts}"
    write_tensors(
        folder / "expected.safetensors",
        {"input_ids": ids, "logits": output.logits, "loss": output.loss.reshape(1)}
        | (hidden if dtype == torch.float32 else {}),
    )
    facts = {"inputIDs": ids.tolist(), "loss": output.loss.item(), "greedy": texts}
    facts |= {"parameters": model.num_parameters(), "storedAs": str(dtype).removeprefix("torch.")}
    write_json(folder / "expected.json", facts | {"computedIn": "float32"})
    print(name, "loss", output.loss.item(), "parameters", facts["parameters"], [t["smallestLead"] for t in texts])


def main():
    torch.set_num_threads(1)
    write("llama-tiny", scatter(llama(5, tied=True), SEED))
    write("llama-tiny-untied", scatter(llama(3, tied=False), SEED + 10))
    write("gpt2-tiny", scatter(gpt2(3), SEED + 20))
    write("llama-tiny-bf16", scatter(llama(3, tied=True), SEED + 30), torch.bfloat16, max_shard_size="20KB")
    write("gpt2-tiny-f16", scatter(gpt2(3), SEED + 40), torch.float16)
    write_manifest(FOLDER, "checkpoints.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
