"""Vectors that sentence-transformers makes of states, by each of its poolings: of Tests/ParityTests/Golden/sentences.safetensors."""

import json

import sentence_transformers
import torch
from sentence_transformers.sentence_transformer.modules.pooling import Pooling

from golden import GOLDEN, Dice, write_tensors

SEED = 4711
states = Dice(SEED).normal(2, 5, 6)
values = {"states": states}
for mode in Pooling.POOLING_MODES:
    given = {"token_embeddings": states, "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    values[mode] = Pooling(6, mode)(given)["sentence_embedding"]
write_tensors(GOLDEN / "sentences.safetensors", values)
(GOLDEN / "sentences.json").write_text(
    json.dumps({"script": "sentences.py", "seed": SEED, "torch": torch.__version__, "sentenceTransformers": sentence_transformers.__version__}) + "\n"
)
