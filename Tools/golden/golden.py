"""What every golden script shares: where the files lie, how they are written, and what their manifest says.

Conventions of all golden files:

- Tensors lie in safetensors as F32, row-major, under the names that the script gives them (F16 and BF16 only in the
  checkpoints that test those types). Integers (token ids, targets, positions) lie in the JSON beside the tensors, and
  are repeated as F32 tensors where that saves the reader a step; all are small enough to be exact.
- Each folder has a `manifest.json`: the script, the versions it ran with and its seed. No dates, so a second run with the
  same versions gives the same files.
"""

import json
import os
import platform
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "Tests" / "ParityTests" / "Golden"
REFERENCE = ROOT / "Tests" / "ParityTests" / "Reference"


def assets() -> Path:
    """The folder of real models and corpora: FEDPEAT_ASSETS, or ../shared/assets beside the project."""
    return Path(os.environ.get("FEDPEAT_ASSETS", ROOT / ".." / "shared" / "assets"))


def versions() -> dict:
    import numpy
    import peft
    import safetensors

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines(value) + "\n")


def _lines(value, indent=0) -> str:
    """JSON with an object's keys on lines of their own, and lists of numbers each on one line."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        rows = [f"{pad}{json.dumps(k)}: {_lines(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        rows = [pad + _lines(v, indent + 1) for v in value]
        return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"
    return json.dumps(value)


def write_manifest(folder: Path, script: str, seed: int, **facts) -> None:
    write_json(
        folder / "manifest.json",
        {"generator": f"Tools/golden/{script}", "versions": versions(), "seed": seed, **facts},
    )


def write_tensors(path: Path, tensors: dict) -> None:
    """Stores the tensors as contiguous float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()}, path)
    path.chmod(0o644)


class Dice:
    """Seeded random inputs, rounded to float32 so that the stored file holds exactly what was computed with."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, scale=1.0, mean=0.0, grad=True) -> torch.Tensor:
        x = torch.randn(*shape, generator=self.generator, dtype=torch.float32) * scale + mean
        return x.double().requires_grad_(grad)

    def integers(self, limit, *shape) -> torch.Tensor:
        return torch.randint(0, limit, shape, generator=self.generator)
