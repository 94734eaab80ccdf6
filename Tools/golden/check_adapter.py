"""What PEFT computes from a base checkpoint and an adapter folder.

    python check_adapter.py BASE ADAPTER IDS.json OUT.safetensors

IDS.json and OUT as in check_checkpoint.py; `logits` with the adapter in place. Fails where the adapter's file and the
tensors that PEFT makes of adapter_config.json differ in names, shapes or values: PEFT itself only warns of some of that.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from check_checkpoint import load_strictly, logits_of, read_ids
from golden import write_tensors


def main(base, adapter, ids, out):
    torch.set_num_threads(1)
    model = PeftModel.from_pretrained(load_strictly(base), adapter).eval()
    stored = load_file(Path(adapter) / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    if stored.keys() != loaded.keys():
        only_file, only_model = sorted(stored.keys() - loaded.keys()), sorted(loaded.keys() - stored.keys())
        sys.exit(f"{adapter}: only in the file: {only_file}; only in what PEFT made of the configuration: {only_model}")
    wrong = [k for k in stored if not torch.equal(stored[k].float(), loaded[k].float())]
    if wrong:
        sys.exit(f"{adapter}: PEFT holds other values than the file in {sorted(wrong)}")
    with torch.no_grad():
        tokens = read_ids(ids)
        # Without the rows of virtual tokens.
        logits = logits_of(model, tokens)[:, -tokens.shape[1] :]
    write_tensors(Path(out), {"logits": logits})


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
