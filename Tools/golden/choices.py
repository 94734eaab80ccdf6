"""Multiple choice as lm-evaluation-harness scores it, on a tiny model with random weights.

The definition, written out here (lm_eval/api/model.py `_encode_pair`, lm_eval/models/huggingface.py, lm_eval/api/task.py
`process_results`):

- the request is context, delimiter, choice; the delimiter is a blank, and nothing where the context ends in white space;
- white space at the context's end moves to the continuation; both together are encoded, and as many tokens as the context alone has are
  the context;
- of more tokens than the model reads, plus one, the last ones stay;
- acc: the choice with the largest sum of log-probabilities; acc_norm: the largest sum divided by len(choice), in Python's characters.

Golden/choices:
    model/              GPT-2 with the vocabulary of the tokenizer in PeatTokenizersTests/Golden/gpt2-style
    items.jsonl         200 questions {context, choices, gold}
    expected.json       acc, acc_norm; for each question the log-probabilities, the choices and `smallestLead`, the smallest gap
                        between the two best scores of any question
"""

import json
import random

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from golden import GOLDEN, ROOT, write_json, write_manifest

OUT = GOLDEN / "choices"
SEED = 20261127
COUNT = 200
CONTEXT = 64
WORDS = """the a small old river house bird green letter of and over under never always runs sings waits for two seven
Zürich café naïve übermorgen 東京 год e.g. don't well-known (so) 12 3.5 !? sky, sea. "yes" no""".split()


def scores(model, tokenizer, context, choice):
    delimiter = "" if context[-1:].isspace() else " "
    continuation = delimiter + choice
    spaces = len(context) - len(context.rstrip())
    if spaces:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole = tokenizer.encode(context + continuation, add_special_tokens=False).ids
    given = tokenizer.encode(context, add_special_tokens=False).ids
    rest = whole[len(given):]
    tokens = (given + rest)[-(CONTEXT + 1):]
    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits[0].float(), -1)
    rows = logs[-len(rest):]
    return rows.gather(1, torch.tensor(rest)[:, None]).sum().item()


def best(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def lead(values):
    first, second = sorted(values, reverse=True)[:2]
    return first - second


def main():
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    tokenizer = Tokenizer.from_file(str(ROOT / "Tests/PeatTokenizersTests/Golden/gpt2-style/tokenizer.json"))
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4,
        initializer_range=0.4, bos_token_id=0, eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(OUT / "model", safe_serialization=True)
    (OUT / "model" / "generation_config.json").unlink(missing_ok=True)

    items, answers, leads = [], [], []
    while len(items) < COUNT:
        length = 60 if len(items) % 40 == 39 else chance.randint(1, 12)
        context = " ".join(chance.choices(WORDS, k=length)) + chance.choice([""] * 6 + ["\n", " ", "  ", ":"])
        choices = []
        while len(choices) < chance.randint(2, 5):
            choice = " ".join(chance.choices(WORDS, k=chance.randint(1, 5)))
            if choice not in choices:
                choices.append(choice)
        plain = [scores(model, tokenizer, context, c) for c in choices]
        normalized = [s / len(c) for s, c in zip(plain, choices)]
        if lead(plain) < 1e-3 or lead(normalized) < 1e-3:
            continue
        leads += [lead(plain), lead(normalized)]
        items.append({"context": context, "choices": choices, "gold": chance.randrange(len(choices))})
        answers.append({"logProbabilities": plain, "acc": best(plain), "acc_norm": best(normalized)})
    (OUT / "items.jsonl").write_text("".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items))
    golds = [i["gold"] for i in items]
    write_json(OUT / "expected.json", {
        "acc": sum(a["acc"] == g for a, g in zip(answers, golds)) / COUNT,
        "acc_norm": sum(a["acc_norm"] == g for a, g in zip(answers, golds)) / COUNT,
        "smallestLead": min(leads),
        "answers": answers,
    })
    write_manifest(OUT, "choices.py", SEED)


if __name__ == "__main__":
    main()
