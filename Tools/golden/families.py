"""A tiny random checkpoint of each family of models, and what transformers computes of it.

Writes Tests/ParityTests/Golden/families/<name>/: config.json and model.safetensors as `save_pretrained` writes them, and
reference.safetensors as `reference.py` does. Computed in float32 with eager attention. With names only those are made.
"""

import shutil
import sys
import zlib

import torch
import transformers
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPVisionConfig,
    DeiTConfig,
    DistilBertConfig,
    Gemma2Config,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    MT5Config,
    T5Config,
    ViTConfig,
    XLMRobertaConfig,
)

from golden import GOLDEN, Dice, write_manifest, write_tensors
from reference import reference

SEED = 777
FOLDER = GOLDEN / "families"
VOCABULARY = 53
COMMON = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": 48}
GATED = COMMON | {"intermediate_size": 24, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 300.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
    "original_max_position_embeddings": 12,
}
YARN = {"rope_type": "yarn", "rope_theta": 300.0, "factor": 4.0, "original_max_position_embeddings": 12}

DECODERS = {
    "llama": LlamaConfig(**GATED, attention_bias=True, mlp_bias=True, head_dim=6),
    "llama-rope-linear": LlamaConfig(**GATED, rope_parameters={"rope_type": "linear", "rope_theta": 300.0, "factor": 3.0}),
    "llama-rope-llama3": LlamaConfig(**GATED, rope_parameters=LLAMA3),
    "llama-rope-yarn": LlamaConfig(**GATED, rope_parameters=YARN),
    "mistral": MistralConfig(**GATED, sliding_window=5),
    "qwen2": Qwen2Config(**GATED, use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**GATED, head_dim=8),
    "gemma": GemmaConfig(**GATED, head_dim=8),
    "gemma2": Gemma2Config(
        **GATED, head_dim=8, sliding_window=4, query_pre_attn_scalar=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gpt-neox": GPTNeoXConfig(
        **COMMON, intermediate_size=40, bos_token_id=0, eos_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
    ),
    "gpt-neox-sequential": GPTNeoXConfig(
        **COMMON, intermediate_size=40, bos_token_id=0, eos_token_id=0, use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0},
    ),
    "opt": OPTConfig(**COMMON, ffn_dim=40, word_embed_proj_dim=16),
    "opt-norms-behind": OPTConfig(**COMMON, ffn_dim=40, word_embed_proj_dim=16, do_layer_norm_before=False),
    "llama-classes": LlamaConfig(**GATED | {"pad_token_id": 52}, num_labels=3),
    "llama-padded-classes": LlamaConfig(**GATED | {"pad_token_id": 52}, num_labels=3),
    # Of a vocabulary's logits alone there is a soft cap.
    "gemma2-classes": Gemma2Config(
        **GATED | {"pad_token_id": 52}, head_dim=8, sliding_window=4, query_pre_attn_scalar=7, attn_logit_softcapping=2.0,
        final_logit_softcapping=1.0, num_labels=3,
    ),
    # Three of a head's twelve values turn, and a fourth with them.
    "gpt-neox-odd": GPTNeoXConfig(
        **COMMON | {"hidden_size": 24, "num_attention_heads": 2}, intermediate_size=40, bos_token_id=0, eos_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25},
    ),
}
BERT = COMMON | {"intermediate_size": 24, "num_labels": 3}
DISTILBERT = {
    "vocab_size": VOCABULARY, "dim": 16, "n_heads": 4, "n_layers": 3, "hidden_dim": 24, "max_position_embeddings": 48, "num_labels": 3,
}
ENCODERS = {
    "bert": (BertConfig(**BERT), "Bert"),
    "roberta": (RobertaConfig(**BERT, pad_token_id=1, type_vocab_size=1), "Roberta"),
    "distilbert": (DistilBertConfig(**DISTILBERT), "DistilBert"),
}
VIT = {
    "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 24, "image_size": 8, "patch_size": 2,
    "num_channels": 3, "num_labels": 3,
}
T5 = {
    "vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 3, "num_decoder_layers": 4, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 14, "decoder_start_token_id": 0, "tie_word_embeddings": True,
}
PAIRS = {"t5": T5Config(**T5), "t5-gated": T5Config(**T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})}
VISION = {"vit": (ViTConfig(**VIT), "ViT"), "deit": (DeiTConfig(**VIT, qkv_bias=False), "DeiT")}
CLIP_TOWER = {key: value for key, value in VIT.items() if key != "num_labels"}
CLIP_TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12,
    "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "projection_dim": 12,
}
CLIP_WHOLE = {"text_config": CLIP_TEXT, "vision_config": CLIP_TOWER | {"projection_dim": 12}, "projection_dim": 12}
CLIP = {
    "clip-vision": (CLIPVisionConfig(**CLIP_TOWER), "CLIPVisionModel"),
    "clip": (CLIPConfig(**CLIP_WHOLE), "CLIPModel"),
    "clip-classes": (CLIPConfig(**CLIP_WHOLE, num_labels=3), "CLIPForImageClassification"),
}

# Without heads, and heads that are not the embedding.
BARE = {
    "llama-bare": (LlamaConfig(**GATED, rope_parameters=YARN | {"mscale": 0, "mscale_all_dim": 1.0}, original_max_position_embeddings=9), "LlamaModel"),
    "qwen2-bare": (Qwen2Config(**GATED), "Qwen2Model"),
    "gpt-neox-bare": (GPTNeoXConfig(**COMMON, intermediate_size=40, bos_token_id=0, eos_token_id=0, rotary_pct=0.5, rotary_emb_base=500), "GPTNeoXModel"),
}
UNTIED = {
    "bert-untied-masked": (BertConfig(**BERT, tie_word_embeddings=False), "BertForMaskedLM"),
    "roberta-untied-masked": (RobertaConfig(**BERT, pad_token_id=1, type_vocab_size=1, tie_word_embeddings=False), "RobertaForMaskedLM"),
}

NARROW = OPTConfig(**COMMON, ffn_dim=40, word_embed_proj_dim=12, do_layer_norm_before=False, num_labels=3)


def models():
    """Each model's name, configuration and class."""
    for name, config in DECODERS.items():
        mapping = transformers.AutoModelForSequenceClassification if name.endswith("-classes") else transformers.AutoModelForCausalLM
        yield name, config, mapping._model_mapping[type(config)]
    for name, (config, prefix) in ENCODERS.items():
        for suffix, kind in (("", "Model"), ("-masked", "ForMaskedLM"), ("-classes", "ForSequenceClassification")):
            yield name + suffix, config, getattr(transformers, prefix + kind)
    for name, (config, prefix) in VISION.items():
        for suffix, kind in (("", "Model"), ("-classes", "ForImageClassification")):
            yield name + suffix, config, getattr(transformers, prefix + kind)
    yield "opt-narrow", NARROW, transformers.OPTForCausalLM
    yield "opt-narrow-classes", NARROW, transformers.OPTForSequenceClassification
    yield "bert-pairs-classes", BertConfig(**BERT), transformers.BertForSequenceClassification
    for name, config in PAIRS.items():
        yield name, config, transformers.T5ForConditionalGeneration
    yield "mt5", MT5Config(**T5 | {"feed_forward_proj": "gated-gelu"}), transformers.MT5ForConditionalGeneration
    multilingual = XLMRobertaConfig(**BERT, pad_token_id=1, type_vocab_size=1)
    yield "roberta-padded", RobertaConfig(**BERT, pad_token_id=1, type_vocab_size=1), transformers.RobertaModel
    yield "xlm-roberta-masked", multilingual, transformers.XLMRobertaForMaskedLM
    yield "xlm-roberta-classes", multilingual, transformers.XLMRobertaForSequenceClassification
    for name, (config, kind) in (CLIP | BARE | UNTIED).items():
        yield name, config, getattr(transformers, kind)


def seed(name: str) -> int:
    """A model's own seed, by its name: what is drawn of one does not depend on which others there are."""
    return SEED + zlib.crc32(name.encode())


def scatter(model, seed):
    """Weights that make every part matter: norms away from 1, biases away from 0, matrices that keep the size of x."""
    dice = Dice(seed)
    config = getattr(model, "config", None)
    if getattr(config, "scale_decoder_outputs", True) is False or getattr(config, "model_type", "") == "mt5":
        # transformers ties every T5 that is made; later ones and mT5 have a head of their own.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 0:
                continue  # a scale of what is not computed here
            mean = p.mean().item() if p.ndim == 1 else 0
            scale = 0.2 if p.ndim == 1 else 1.2 * p.shape[-1] ** -0.5
            p.copy_(dice.normal(*p.shape, scale=scale, mean=round(mean)))
    return model.eval()


def main():
    torch.set_num_threads(1)
    for name, config, kind in models():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        config._attn_implementation = "eager"
        model = scatter(kind(config), seed(name))
        folder = FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        for file in folder.iterdir():
            file.chmod(0o644)
        values = reference(model, seed(name) + 100, 17, "-pairs" in name, "-padded" in name)
        write_tensors(folder / "reference.safetensors", values)
        print(name, "loss", values["loss"].item(), "parameters", model.num_parameters())
    write_manifest(FOLDER, "families.py", SEED, computedIn="float32")


if __name__ == "__main__":
    main()
