"""What transformers computes from a checkpoint folder.

    python check_checkpoint.py FOLDER IDS.json OUT.safetensors

IDS.json is a list of equally long lists of token ids, or an object with such a list under `inputIDs`. OUT gets `logits`
[B, T, V] in float32, computed in float32 from the stored weights; [B, 1, C] of a model of C classes. A model with an encoder reads the first half
of each list, its decoder the other, of which the logits are. Fails where a weight is missing, left over or of
another shape.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from golden import write_tensors


def read_ids(path):
    value = json.loads(Path(path).read_text())
    return torch.tensor(value["inputIDs"] if isinstance(value, dict) else value)


def has_classes(config):
    return (config.architectures or [""])[0].endswith("ForSequenceClassification")


def load_strictly(folder):
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = AutoModelForCausalLM
    if has_classes(config):
        kind = AutoModelForSequenceClassification
    elif (config.architectures or [""])[0].endswith("ForImageClassification"):
        kind = AutoModelForImageClassification
    elif config.is_encoder_decoder:
        kind = AutoModelForSeq2SeqLM
    model, report = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    wrong = {k: sorted(map(str, v)) for k, v in report.items() if v}
    if wrong:
        sys.exit(f"{folder}: transformers did not load every tensor: {wrong}")
    if has_classes(config) and model.config.pad_token_id is None:
        # Several lists at once need one; no list here has it.
        model.config.pad_token_id = -1
    return model.eval()


def logits_of(model, ids):
    if has_classes(model.config):
        # No use_cache=False: BERT would leave out a prefix.
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, None]
    if not model.config.is_encoder_decoder:
        return model(input_ids=ids, use_cache=False).logits
    half = ids.shape[1] // 2
    return model(input_ids=ids[:, :half], decoder_input_ids=ids[:, half:], use_cache=False).logits


def main(folder, ids, out):
    torch.set_num_threads(1)
    with torch.no_grad():
        logits = logits_of(load_strictly(folder), read_ids(ids))
    write_tensors(Path(out), {"logits": logits})


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
