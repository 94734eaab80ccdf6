"""Mean-pooled embeddings by transformers, as sentence-transformers makes them: embed.py MODEL TEXTS.json OUT.safetensors"""

import json
import sys

import torch
from transformers import AutoModel, AutoTokenizer

from golden import write_tensors
from pathlib import Path

model_folder, texts, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model_folder)
model = AutoModel.from_pretrained(model_folder, dtype=torch.float32).eval()
batch = tokenizer(json.loads(Path(texts).read_text()), padding=True, truncation=True, max_length=128, return_tensors="pt")
with torch.no_grad():
    states = model(**batch).last_hidden_state
mask = batch["attention_mask"].unsqueeze(-1).float()
write_tensors(Path(out), {"embeddings": (states * mask).sum(1) / mask.sum(1)})
