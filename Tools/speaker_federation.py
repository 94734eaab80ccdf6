"""A federation of the sixteen speakers of a play with the most text, run by `fedpeat simulate` with several configurations and seeds."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEAKERS = 16
RANK_LIMITS = [2, 4, 8, 16]


def arguments(description: str) -> argparse.ArgumentParser:
    """What every comparison takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("script", type=Path, help="a play: a line SPEAKER:, the lines spoken, an empty line")
    parser.add_argument("folder", type=Path, help="where results are kept; what is there is not measured again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--local-steps", type=int, default=10)
    parser.add_argument("--program", type=Path, default=ROOT / "fedpeat")
    return parser


class SpeakerFederation:
    """The data, the run that all comparisons begin with, and its results by configuration and seed."""

    def __init__(self, options: argparse.Namespace):
        self.folder = options.folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.program = options.program
        self._write_data(options.script)
        self.run = {
            "model": str(options.model.resolve()), "data": str(self.folder / "clients.jsonl"), "clientsBy": "who",
            "clients": SPEAKERS, "emulators": ["layer-drop=2"], "rank": 16, "alpha": 32, "localSteps": options.local_steps, "batch": 4,
            "context": 128, "rounds": options.rounds, "learningRate": 1e-2, "schedule": "cosine",
            "stateNoise": 0.3, "evaluationData": str(self.folder / "test.txt"), "fullFineTuning": False, "threads": 1,
        }
        self.length = f"-{options.rounds}x{options.local_steps}"

    def central(self, **changes) -> dict:
        """The same adapter through the same emulator on all texts together, with as many steps as one device makes."""
        alone = {key: value for key, value in self.run.items() if key != "clientsBy"}
        return alone | {"clients": 1} | changes

    def same_work(self, **changes) -> dict:
        """As `central`, with as many examples a step as all devices have."""
        return self.central(batch=self.run["batch"] * SPEAKERS, **changes)

    def outcome(self, name: str, configuration: dict, seed: int) -> dict:
        """The run's JSON; from the folder where it was made before."""
        slug = name.replace(", ", "-").replace(" ", "-").replace("=", "-") + self.length
        file, result = self.folder / f"{slug}.yaml", self.folder / f"{slug}-{seed}.json"
        text = json.dumps(configuration)
        if file.exists() and file.read_text(encoding="utf-8") != text:
            sys.exit(f"'{file}' is of another configuration. Name another folder, or remove it with its results.")
        file.write_text(text, encoding="utf-8")
        if not result.exists():
            command = [self.program, "simulate", file, "--seed", str(seed), "--json", "--quiet"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{name}, seed {seed}: {done.stdout}")
            result.write_text(done.stdout, encoding="utf-8")
        return json.loads(result.read_text(encoding="utf-8"))

    def _write_data(self, script: Path) -> None:
        """A JSON line per speaker; the last tenth of each text is for measuring."""
        held_out, lines = [], []
        for number in range(SPEAKERS):
            tool = [sys.executable, ROOT / "Tools/speakers.py", script, "--skip", str(number), "--count", "1", "--text"]
            text = subprocess.run(tool, check=True, capture_output=True, text=True).stdout.splitlines(keepends=True)
            end = len(text) - len(text) // 10
            lines.append(json.dumps({"who": str(number), "text": "".join(text[:end])}))
            held_out += text[end:]
        (self.folder / "clients.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "test.txt").write_text("".join(held_out), encoding="utf-8")


def plug_in(outcomes: list[dict]) -> float:
    """The geometric mean of plug-in perplexities."""
    values = [outcome["fiveNumbers"]["plugIn"] for outcome in outcomes]
    return math.exp(sum(map(math.log, values)) / len(values))


def shown(outcomes: list[dict]) -> str:
    """Mean, lowest and highest plug-in perplexity."""
    values = [outcome["fiveNumbers"]["plugIn"] for outcome in outcomes]
    return f"{plug_in(outcomes):.2f} ({min(values):.2f} to {max(values):.2f})"


def traffic(outcomes: list[dict]) -> tuple[float, float]:
    """Bytes up and down of a client and round."""
    clients = [client for outcome in outcomes for record in outcome["roundRecords"] for client in record["outcomes"]]
    up, down = (sum(client[key] for client in clients) / len(clients) for key in ("bytesUp", "bytesDown"))
    return up, down
