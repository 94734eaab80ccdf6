"""Makes the golden files of PeatTokenizers with Hugging Face's tokenizers.

    python Tools/golden/tokenizers/make_goldens.py [--stories FOLDER] [--minilm FOLDER]

Writes Tests/PeatTokenizersTests/Golden: small tokenizers trained here on text that this script writes, what they make of
difficult texts (`cases.json`, in full), and fingerprints of what they make of 2,400 strings (`fingerprints.json`, see
strings.py). With --stories and --minilm (folders with a tokenizer.json) also token numbers and fingerprints for those
tokenizers; the tokenizers themselves are not copied. Needs `pip install tokenizers`; the version goes into manifest.json.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import character_map
import strings
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SEED = 20
ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "Tests" / "PeatTokenizersTests" / "Golden"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def corpus(chance):
    """Some 30 kB of simple reports in several scripts."""
    people = ["Mara", "Otto", "Ines", "Tom", "Léa", "Søren", "Ана", "小明", "محمد"]
    verbs = ["walked to", "didn't find", "they'll mend", "has seen", "can't open", "I'm counting", "we've lost", "paints"]
    things = ["the old mill", "a red boat", "the water-pump", "her café", "seven lamps", "the naïve clock", "город", "東京の駅", "الكتاب"]
    times = ["today", "at 7:45", "in 2023", "on 12/05/1999", "after 3.14 hours", "again and again", "🙂", "👩‍👩‍👧"]
    ends = [".", "!", "?", " ...", ";", ".\n", ".\n\n", "  \n", "\t(see below)"]
    lines = []
    for _ in range(640):
        line = " ".join(chance.choice(group) for group in (people, verbs, things, times))
        lines.append(line + chance.choice(ends))
    return " ".join(lines)


TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\r",
    "\r\n",
    "\t\t",
    "a",
    " a",
    "a ",
    "   a   b    ",
    "Mara walked to the old mill today.",
    "Once upon a time, there was a little girl named Lily.",
    "don't DON'T they'll THEY'LL we've I'm he'd it's 'tis ''s 'x '",
    "can't\u2019t \u2019s '\u017f",
    "1 12 123 1234 12345 1234567890 3.14 1,000,000 ½ ² Ⅷ ٣٤٥",
    "line one\nline two\r\nline three\rline four\n\n\n  indented\n\t\ttabs \n \n x",
    "trailing spaces   ",
    "   \n  \n   leading",
    "vertical\x0btab form\x0cfeed next\x85line nbsp\u00a0here em\u2003space ideographic\u3000space zero\u200bwidth sep\u2028line",
    "nul\x00bell\x07escape\x1bdelete\x7f",
    "café cafe\u0301 CAFÉ naïve nai\u0308ve Å A\u030a \u212b",
    "e\u0301\u0302\u0303\u0304 stacked marks, \u0301 alone, \u0301",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ ☺ 🙂🙂🙂 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "東京の駅で小明に会いました。これはペンです。",
    "中文没有空格,但是有标点。",
    "한국어 문장 \u1112\u1161\u11ab",
    "محمد قرأ الكتابَ في المكتبة.",
    "שלום עולם נִקּוּד",
    "हिन्दी में लिखा हुआ क्षेत्र",
    "ไทยไม่มีช่องว่าง",
    "Ελληνικά ΣΊΣΥΦΟΣ İstanbul ǅ ß ﬁ ﬀ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 \U0001f600\U0010ffff\ufffd\uffff",
    "\u2581 already \u2581marked\u2581\u2581twice Ġtime Ċ",
    "<0x41> <0xE4> <0x0A>",
    "hello<|end|>world <|end|> <|end|><|end|>",
    "<s>begin</s> <unk> <s ></s>",
    "a <mask> b<mask>c  <mask>  d",
    "oneword one word_one one. (one) bone one",
    "ABC abc Abc Caf\u00c9 special caf\u00e9x",
    "snake_case camelCase kebab-case path/to/file.txt http://a.b/c?d=e&f=g#h user@mail.org",
    "def f(x):\n    return x**2  # square\n\nif __name__ == \"__main__\":\n\tprint(f(3))\n",
    "!!!??? ... --- === *** ((([[[{{{}}}]]])))",
    "$5 + €6 = £11 ± 3% × ÷ ∑ √ ∞",
    "a\u200db\u200cc \u2066iso\u2069 \ufeffbom",
    "x" * 200,
    "ab" * 100 + " " * 50 + "\n" * 30,
    "\u00ad\u0378\ue000\U000f0000 unassigned and private",
]


def latin(text):
    """Without the other scripts, so that a vocabulary has unknown characters. ("limit_alphabet" breaks ties by chance.)"""
    return "".join(character for character in text if ord(character) < 0x250)


def added(content, special=True, **options):
    return AddedToken(content, special=special, **{"normalized": not special, **options})


SPECIALS = [
    added("<mask>", lstrip=True),
    added("<|end|>"),
]
PLAIN = [
    added("one", special=False, single_word=True),
    added("Caf\u00c9", special=False, normalized=True, rstrip=True),
]


def gpt2_style(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def sentencepiece_style(text):
    """The parts of stories260K's tokenizer: no pre-tokenizer, byte fallback, fused unknowns."""
    teacher = Tokenizer(models.BPE())
    teacher.pre_tokenizer = pre_tokenizers.Metaspace()
    teacher.train_from_iterator(
        [latin(text)], trainers.BpeTrainer(vocab_size=330, show_progress=False, min_frequency=2))
    taught = json.loads(teacher.to_str())["model"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for token in sorted(taught["vocab"], key=taught["vocab"].get):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(
        vocab=vocabulary, merges=[tuple(pair) for pair in taught["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace(text):
    """Metaspace with "first", no byte fallback: what is unknown becomes <unk>, not fused."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator([latin(text)], trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def llama3_style(text):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<s>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])])
    return tokenizer


def byte_level(text, size, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<s>", "</s>", "<unk>"])


def roberta_style(text):
    tokenizer, trainer = byte_level(text, 500)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=True)
    return tokenizer


def qwen2_style(text):
    """Qwen2's parts; GPT-NeoX has the same normalizer."""
    tokenizer, trainer = byte_level(text, 500)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def clip_style(text):
    tokenizer, trainer = byte_level(text, 560, unk_token="<unk>", end_of_word_suffix="</w>")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("\\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer.end_of_word_suffix = "</w>"
    trainer.special_tokens = ["<s>", "</s>", "<unk>", "<|startoftext|>", "<|endoftext|>"]
    tokenizer.train_from_iterator([text], trainer)
    # Every byte also as the end of a word, as the real file has it.
    model = json.loads(tokenizer.to_str())["model"]
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        model["vocab"].setdefault(letter + "</w>", len(model["vocab"]))
    tokenizer.model = models.BPE(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], unk_token="<unk>", end_of_word_suffix="</w>",
        continuing_subword_prefix="")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", 4), ("<|startoftext|>", 3), add_prefix_space=False, trim_offsets=False)
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def affixes(text):
    """Byte-pair encoding with a prefix within words and a suffix at their ends, as early files have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.train_from_iterator([latin(text)], trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], continuing_subword_prefix="##", end_of_word_suffix="</w>", show_progress=False))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


def gemma_style(text):
    """Gemma's parts: cut before each run of spaces, byte fallback."""
    tokenizer = sentencepiece_style(text)
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def bert_style(text, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator([text], trainers.WordPieceTrainer(vocab_size=420 if lowercase else 460, special_tokens=names, show_progress=False))
    tokenizer.decoder = decoders.WordPiece(cleanup=lowercase)
    if lowercase:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    else:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram(text, names, bytes_too=False):
    """A vocabulary of `names`, then what the trainer learns."""
    teacher = Tokenizer(models.Unigram())
    teacher.pre_tokenizer = pre_tokenizers.Metaspace()
    teacher.train_from_iterator([text], trainers.UnigramTrainer(vocab_size=420, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]))
    learned = [(token, score) for token, score in json.loads(teacher.to_str())["model"]["vocab"] if token not in names]
    first = [(name, 0.0) for name in names]
    if bytes_too:
        first += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    return models.Unigram(first + learned, unk_id=names.index("<unk>"), byte_fallback=bytes_too)


def precompiled():
    """The part's JSON goes through a tokenizer, as the package makes none from bytes without sentencepiece's own header."""
    part = {"type": "Precompiled", "precompiled_charsmap": character_map.encoded(character_map.entries())}
    return Tokenizer.from_str(json.dumps(minimal(normalizer=part))).normalizer


def t5_style(text):
    tokenizer = Tokenizer(unigram(text, ["<pad>", "</s>", "<unk>"]))
    tokenizer.normalizer = normalizers.Sequence([precompiled(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", "<extra_id_0>"])
    return tokenizer


def unigram_bytes(text):
    """Unigram with byte fallback and the normalizers of ALBERT and its like."""
    tokenizer = Tokenizer(unigram(latin(text), ["<unk>", "<s>", "</s>"], bytes_too=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.Replace("``", '"'), normalizers.NFKC(), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)])
    return tokenizer


def cases(tokenizer, texts):
    result = []
    for text in texts:
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        full = tokenizer.encode(text).ids
        result.append({
            "text": text, "ids": plain, "idsWithSpecial": full,
            "decoded": tokenizer.decode(full, skip_special_tokens=False),
            "decodedSkipping": tokenizer.decode(full, skip_special_tokens=True)})
    return result


def fingerprints(tokenizer, texts):
    """Of each text: the numbers without and with special tokens, then both decodings."""
    result = []
    for text in texts:
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        full = tokenizer.encode(text).ids
        decoded = [tokenizer.decode(full, skip_special_tokens=skip) for skip in (False, True)]
        result.append(
            strings.fingerprint("|".join(",".join(map(str, ids)) for ids in (plain, full))) + strings.fingerprint("\0".join(decoded)))
    return "".join(result)


def encodings(folder):
    """Batches, single and paired, truncated and padded in every way."""
    result = []
    texts = ["Mara walked to the old mill today.", "", "Otto", "seven lamps and her café again and again and again, at 7:45."]
    seconds = ["didn't find", "they'll mend the water-pump", "", "a red boat in 2023 " * 3]
    pads = [None, {"length": None, "direction": "right"}, {"length": None, "direction": "left", "pad_to_multiple_of": 8, "pad_id": 3, "pad_type_id": 2}, {"length": 14, "direction": "right", "pad_id": 1}]
    cuts = [None] + [
        {"max_length": length, "stride": stride, "strategy": strategy, "direction": direction}
        for length, stride in ((12, 0), (9, 2), (4, 0)) for strategy in ("longest_first", "only_first", "only_second") for direction in ("left", "right")]
    for name in ("bert-uncased", "bert-cased", "roberta-style", "t5-style", "gpt2-style"):
        for paired in (False, True):
            for special in (True, False):
                for index, cut in enumerate(cuts):
                    pad = pads[index % len(pads)]
                    tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
                    if cut:
                        tokenizer.enable_truncation(**cut)
                    if pad:
                        tokenizer.enable_padding(**pad)
                    saved = json.loads(tokenizer.to_str())
                    inputs = list(zip(texts, seconds)) if paired else texts
                    possible = []
                    for place, item in enumerate(inputs):
                        try:
                            tokenizer.encode_batch([item], add_special_tokens=special)
                            possible.append(place)
                        except BaseException:  # Some are panics in the original, which prints them.
                            pass
                    batch = tokenizer.encode_batch([inputs[place] for place in possible], add_special_tokens=special)
                    # What overflows of a pair overflows again in the original, with nothing new; that is left out.
                    def row(e, depth=0):
                        return [e.ids, e.type_ids, e.attention_mask, e.special_tokens_mask, [row(o, 1) for o in e.overflowing if depth == 0]]
                    result.append({
                        "tokenizer": name, "paired": paired, "special": special, "truncation": json.dumps(saved["truncation"]), "padding": json.dumps(saved["padding"]),
                        "possible": possible, "fingerprints": [strings.fingerprint(json.dumps(row(e), separators=(",", ":"))) for e in batch]})
    return {"texts": texts, "seconds": seconds, "cases": result}


def decodings(tokenizer, chance, count=60):
    size = tokenizer.get_vocab_size()
    result = []
    for _ in range(count):
        # Few merges: low numbers are bytes, which rarely fit together.
        bound = chance.choice([300, size])
        ids = [chance.randrange(bound) for _ in range(chance.randrange(1, 24))]
        result.append({
            "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decodedSkipping": tokenizer.decode(ids, skip_special_tokens=True)})
    return result


def minimal(**parts):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {}, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model, **parts}


def parts():
    """Each part on its own: the pieces that it gives."""
    text = {"String": " "}
    normalizer_parts = [
        {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"},
        {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "StripAccents"}, {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": text, "content": "\u2581"},
        {"type": "Replace", "pattern": {"Regex": "\\s{2,}"}, "content": " "},
        {"type": "Replace", "pattern": {"Regex": "[\\w&&[^a-z]]+"}, "content": "<W>"},
        {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]},
        {"type": "Sequence", "normalizers": []},
        {"type": "Nmt"}, {"type": "ByteLevel"},
        {"type": "Precompiled", "precompiled_charsmap": character_map.encoded(character_map.entries())},
    ]
    normalizer_parts += [
        {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": accents, "lowercase": lower}
        for clean, chinese, accents, lower in [(True, True, None, True), (True, True, None, False), (False, False, True, False), (False, True, False, True), (True, False, True, True)]]
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    pre_parts = [
        {"type": "ByteLevel", "add_prefix_space": p, "trim_offsets": True, "use_regex": u} for p in (False, True) for u in (False, True)]
    pre_parts += [
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
        for scheme in ("first", "always", "never") for split in (True, False)]
    pre_parts += [
        {"type": "Split", "pattern": text, "behavior": b, "invert": i} for b in behaviors for i in (False, True)]
    pre_parts += [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} for pattern in (GPT2, LLAMA3, QWEN2, "\\w+|\\W", "[^\\s]+")]
    pre_parts += [{"type": "Split", "pattern": {"Regex": "\\d|[,.]"}, "behavior": b, "invert": i} for b in behaviors for i in (False, True)]
    pre_parts += [{"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False}]
    pre_parts += [{"type": "Punctuation", "behavior": b} for b in behaviors]
    pre_parts += [{"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"}, {"type": "CharDelimiterSplit", "delimiter": "e"}]
    pre_parts += [{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True}]}]
    result = []
    for part in normalizer_parts:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(normalizer=part)))
        result.append({"key": "normalizer", "part": json.dumps(part, ensure_ascii=False), "pieces": [[p] if (p := tokenizer.normalizer.normalize_str(t)) else [] for t in TEXTS]})
    for part in pre_parts:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(pre_tokenizer=part)))
        result.append({"key": "pre_tokenizer", "part": json.dumps(part, ensure_ascii=False), "pieces": [[p for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str(t)] if t else [] for t in TEXTS]})
    return result


OPTIONS = ((), ("lstrip",), ("rstrip",), ("lstrip", "rstrip"), ("single_word",))


def named_classes():
    """What regular expressions' classes in double brackets leave of a text of scalars of all kinds."""
    chance = random.Random(SEED)
    kinds = {}
    for number in range(0x110000):
        # Of scalars that are older than the version of Unicode that any part knows.
        if unicodedata.ucd_3_2_0.category(chr(number)) not in ("Cn", "Cs"):
            kinds.setdefault(unicodedata.category(chr(number)), []).append(chr(number))
    sample = [c for _, members in sorted(kinds.items()) for c in chance.sample(members, min(len(members), 16))]
    text = "".join(sample) + "$+<=>^`|~!_09afAFgG\u2010\uFF11\u200C\u200D\u0660\u00B2\u0345\u24B6\U0001F1E9\U0001F1EA"
    names = ["alpha", "punct", "digit", "alnum", "space", "upper", "lower", "cntrl", "graph", "print", "word", "xdigit", "blank", "ascii"]
    result = []
    for pattern in [f"[[:{sign}{name}:]]" for name in names for sign in ("", "^")] + ["[^[:punct:]a-f]", "[[:punct:]&&[^$_]]", "\\p{Punct}"]:
        part = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}
        tokenizer = Tokenizer.from_str(json.dumps(minimal(pre_tokenizer=part)))
        result.append({"key": "pre_tokenizer", "part": json.dumps(part, ensure_ascii=False), "pieces": [[p for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]]})
    return {"texts": [text], "cases": result}


# Oniguruma's dialect: what it reads otherwise than others do, and what may match nothing.
EXPRESSIONS = r"""
\v [\v\a\e\f]+ \h+ \H+ [^\h]+ \R [\R] \N+ [\N] \O (?m:a.c) (?m)b..c (?mi:A.C) \Qa+\E \q\i\E \pL \PL \p{^L}+ \P{^L}+ [\p{^L}&&\S]+ \p{upper-case_letter}
a(?i)b|c (?:x(?i)a|b)c (?i)a(?-i)b|c a(?i:B)c a(?m).c|b (?x)a(?#c)b|c (?x)[\s]# (?x:\x{61})b a(?#\))b a(?#)+ {a} a{,} a{b {,}a a{2}+b }|] []a]+ [^]a]+ [a-c-e]+ [--/a]
[[:alpha:]&&[b-d]] [^[:alpha:]&&[^b]]+ [a-w&&[^c-g]z]+ [^a-w&&[^c-g]z]+ [a-c&&b-d&&c] [a&&&b] [:alpha:] [[:^alpha:]]+ [[:a]] [a^] [||] [~-~] [#-&] [+--] [\]\[]+ [\-a]+ [\x41-\x{43}\u0061]+ [\1\8]+
\x61 \x{e9} \u0061 \x6a|\x9 \061 \0 \101|\18 \1234 \o{141} [\o{141}-\o{143}] \cA|\C-b|\x3 (a)\1 (\w)\k<1> (?<n>\w)(b)?\k<n> (?'n'a)\k'n' (a)(?:\1)+ (.)(.)\2\1 (a)|b\1
\bb \b \B \w\b\W \Aa a\z a\Z ^ $ ^a|c$ (?m)^.+$ (?<=a|bc)d (?<!a)[bd] (?>a|ab)c a++b \< \' \` \# \- \_ \" (?i)k (?i)[^k]+ (?i)'S (?i)\p{Lu} (?i)[b-d]+
x* x*? a?b? (?:) \s* \s*$ | a| |a (|b) (?=b) (?!b) (?<=b) b|(?=c) b|$ ^|b \b|a (?:a?)* a*|b
""".split() + ["a #b", "(?x) a # b\n c", "(?x)a {2}", "(?x)a + ?b", "\\ ", "a(?x) b | c"]
EMPTY = ["x*", "b*", "a?b?", "$", "^", "|", "b|", "|b", "b|$", "b|(?=c)", "\\s*", "\\b", "(?!b)", "(?:)", "(?<=a)"]
EXPRESSION_TEXTS = [
    "", "a", "b", "aabbcc", "ab aB AB C aC c", "abc abd bcd zyx", "a\nc\r\nb\u2028", "b\r\nc b\n", "Qa+E QaE \\Q", "pL PL qiE", "a{,} {a} a{b }]", "\x01\x02\x03\x07\x09\x0b\x0c\x1b\x1d",
    "1 18 41 S4 0 8", "abba aa\x01 a1", "e\u0301 \u0301b a\u200db", "\u00e9\u00c9 K\u212a k '\u017f '\u00b2", "\u65e5b\U0001f642b", "&a^||]-,.[:]", "  b  ", "a\n", "#-_'`<\"/"]


def expressions():
    """What regular expressions cut out, and what Replace makes of those that may match nothing."""
    parts = [("pre_tokenizer", {"type": "Split", "pattern": {"Regex": e}, "behavior": "Isolated", "invert": False}) for e in EXPRESSIONS]
    parts += [("pre_tokenizer", {"type": "Split", "pattern": {"Regex": e}, "behavior": b, "invert": i})
              for e in ("b*", "b|(?=c)", "$") for b in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous") for i in (False, True)]
    parts += [("normalizer", {"type": "Replace", "pattern": {"Regex": e}, "content": c}) for e in EMPTY for c in ("<>", "")]
    result = []
    for key, part in parts:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(**{key: part})))
        found = [
            [tokenizer.normalizer.normalize_str(t)] if key == "normalizer" else [p for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str(t)]
            for t in EXPRESSION_TEXTS]
        # A text of nothing has no pieces.
        result.append({"key": key, "part": json.dumps(part, ensure_ascii=False), "pieces": [[p for p in pieces if p] for pieces in found]})
    return {"texts": EXPRESSION_TEXTS, "cases": result}


def added_tokens():
    """Added tokens that take white space along from each other, and special ones that a normalizer changes: numbers of texts, and these decoded without special tokens.

    Where tokenizers panics there is nothing to compare."""
    def token(content, *options, special=False):
        return {"content": content, "special": special, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False} | {o: True for o in options}

    blanks, mark, lines = "  ", "<m>", "\n\n"
    settings = [(None, [token(blanks, *a), token(mark, *b), token(lines, *c)]) for a in OPTIONS for b in OPTIONS for c in ((), ("lstrip",), ("rstrip",))]
    settings += [
        ({"type": "Lowercase"}, [token("ROMEO", "normalized", special=True), token("Juliet", "normalized"), token("<s>", special=True)]),
        ({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
         [token("\u65E5\u672C", "normalized", special=True), token("\u00C9", "normalized", special=True), token("e", special=True)]),
        ({"type": "ByteLevel"}, [token("\u00E9", "normalized", special=True), token("a b", "normalized", special=True), token("x", "normalized", special=True)]),
        # One token's normal form is the other's content.
        ({"type": "Lowercase"}, [token("X", "normalized"), token("x", special=True)]),
    ]
    texts = [
        " " * 3, " " * 4, " " * 5, "a    b", "<m>  b", "<m>   b", "<m>    b", "<m>  <m>", "  \n\n", "\n\n  ", "  \n\n  \n\n a", "a  <m>   <m>\n\n", "\n\n\n\n<m>",
        "ROMEO romeo x Juliet juliet <s>", "\u65E5\u672C x \u00C9 e \u00E9", "a b x \u00E9", "X x"]
    result = []
    for normalizer, tokens in settings:
        model = {"type": "BPE", "vocab": {c: i for i, c in enumerate(sorted(set("".join(texts)) | set("romejulitxabe\u00C3\u00A9\u0120\u010A")))}, "merges": []}
        file = minimal(normalizer=normalizer) | {"model": minimal()["model"] | model}
        vocabulary = file["model"]["vocab"]
        new = [t["content"] for t in tokens if t["content"] not in vocabulary]
        file["added_tokens"] = [{"id": vocabulary.get(t["content"], len(vocabulary) + (new + [t["content"]]).index(t["content"]))} | t for t in tokens]
        file["added_tokens"].sort(key=lambda t: t["id"])
        tokenizer = Tokenizer.from_str(json.dumps(file))
        numbers, decoded = [], []
        for text in texts:
            try:
                numbers.append(tokenizer.encode(text, add_special_tokens=False).ids)
                decoded.append(tokenizer.decode(numbers[-1], skip_special_tokens=True))
            except BaseException:  # A panic is no Exception.
                numbers.append(None)
                decoded.append(None)
        result.append({"file": json.dumps(file, ensure_ascii=False), "numbers": numbers, "decoded": decoded})
    return {"texts": texts, "cases": result}


def decoder_parts():
    mark = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    chains = [
        None, mark, {"type": "ByteFallback"}, {"type": "Fuse"}, byte_level,
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Strip", "content": "a", "start": 2, "stop": 1},
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True},
        {"type": "Sequence", "decoders": [mark, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        {"type": "Sequence", "decoders": [{"type": "Fuse"}, mark, {"type": "Strip", "content": " ", "start": 3, "stop": 2}]},
        {"type": "Sequence", "decoders": [byte_level, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "_"}]},
        {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": ""},
        {"type": "WordPiece", "prefix": "##", "cleanup": True}, {"type": "WordPiece", "prefix": "##", "cleanup": False}, {"type": "WordPiece", "prefix": "", "cleanup": True},
        {"type": "BPEDecoder", "suffix": "</w>"},
        *({"type": "Replace", "pattern": {"Regex": e}, "content": "_"} for e in EMPTY),
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "a*"}, "content": "-"}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
    ]
    token_lists = [
        ["\u2581Hello", "\u2581", "wor", "ld", "\u2581a\u2581b"],
        ["\u2581\u2581\u2581two", " x ", "  y"],
        ["<0xE4>", "<0xB8>", "<0xAD>", "a", "<0xFF>", "<0xE4>", "b", "<0x41>", "<0xe4>"],
        ["<0xF0>", "<0x9F>", "<0x99>"],
        ["ĠHello", "Ċ", "Ã", "©", "ðŁ", "ĻĤ", "ä¸", "x", "Ŀ"],
        ["aaab", "aba", "a", "aa", "b", "baa"],
        ["é", "e\u0301", "中", "x y"],
        ["##a", "b", "##c", ".", "do", "n't", "'s", "do not", "a , b", "'", " ' ", "##", "##'m"],
        ["the</w>", "mi", "ll</w>", "</w>", "x</w>y</w>"],
    ]
    result = []
    for part in chains:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(decoder=part)))
        for tokens in token_lists:
            if part and part["type"] == "Strip" and part["stop"] and any(len(set(t)) == 1 for t in tokens):
                tokens = [t for t in tokens if len(set(t)) > 1]  # The original stops on these.
            text = tokenizer.decoder.decode(tokens) if part else " ".join(tokens)
            result.append({"part": json.dumps(part, ensure_ascii=False), "tokens": tokens, "text": text})
    return result


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode())


STYLES = {
    "gpt2-style": gpt2_style, "sentencepiece-style": sentencepiece_style, "metaspace": metaspace, "llama3-style": llama3_style,
    "roberta-style": roberta_style, "qwen2-style": qwen2_style, "clip-style": clip_style, "affixes": affixes, "gemma-style": gemma_style,
    "bert-uncased": lambda text: bert_style(text, True), "bert-cased": lambda text: bert_style(text, False), "t5-style": t5_style,
    "unigram-bytes": unigram_bytes,
}
OLDER = list(STYLES)[:4]
OWN = {
    "stories260K": [
        "Once upon a time, there was a little dog named Max. He loved to run in the park.",
        "\"Look, Mom!\" said Lily. \"I can see a big, red ball.\"\n\nHer mom smiled and said, \"Yes, dear.\"",
        "Tim didn't want to share his toys... but then he was sad.",
        "The end.\n",
    ],
    "all-MiniLM-L6-v2": ["This is an example sentence", "Each sentence is converted", "Tokyo (東京) has 13,960,000 inhabitants; São Paulo isn't far off."],
}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--stories", type=pathlib.Path)
    arguments.add_argument("--minilm", type=pathlib.Path)
    arguments.add_argument("--anew", nargs="*", default=list(STYLES), help="the tokenizers to train; the others' files stay")
    arguments = arguments.parse_args()
    text = corpus(random.Random(SEED))
    compared = strings.strings(SEED)
    write(GOLDEN / "strings.json", compared)
    prints = {}
    for name, maker in STYLES.items():
        (GOLDEN / name).mkdir(parents=True, exist_ok=True)
        if name in arguments.anew:
            tokenizer = maker(text)
            if name == "gpt2-style":
                # As trained, for the trainer's own test.
                (GOLDEN / "trainer-corpus.txt").write_bytes(text.encode())
                write(GOLDEN / "trainer-vocabulary.json", {key: json.loads(tokenizer.to_str())["model"][key] for key in ("vocab", "merges")})
            tokenizer.add_special_tokens(SPECIALS)
            tokenizer.add_tokens(PLAIN)
            (GOLDEN / name / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
        # From the file, as a user has it.
        tokenizer = Tokenizer.from_file(str(GOLDEN / name / "tokenizer.json"))
        count = 60 if name in OLDER else 20
        write(GOLDEN / name / "cases.json", {
            "encodings": cases(tokenizer, TEXTS), "decodings": decodings(tokenizer, random.Random(f"{SEED} {name}"), count)})
        prints[name] = fingerprints(tokenizer, compared)
    write(GOLDEN / "parts.json", {"texts": TEXTS, "cases": parts()})
    write(GOLDEN / "decoders.json", decoder_parts())
    write(GOLDEN / "classes.json", named_classes())
    write(GOLDEN / "expressions.json", expressions())
    write(GOLDEN / "added.json", added_tokens())
    write(GOLDEN / "encodings.json", encodings(GOLDEN))
    for name, folder in (("stories260K", arguments.stories), ("all-MiniLM-L6-v2", arguments.minilm)):
        if folder:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            write(GOLDEN / f"{name}.json", {
                "encodings": cases(tokenizer, OWN[name] + TEXTS), "decodings": decodings(tokenizer, random.Random(f"{SEED} {'stories' if 'stories' in name else name}"))})
            prints[name] = fingerprints(tokenizer, compared)
    # Without the folders of the real tokenizers their fingerprints stay.
    path = GOLDEN / "fingerprints.json"
    write(path, {**(json.loads(path.read_text()) if path.exists() else {}), **prints})
    write(GOLDEN / "manifest.json", {
        "script": "Tools/golden/tokenizers/make_goldens.py", "seed": SEED, "tokenizers": tokenizers.__version__,
        "python": platform.python_version()})


if __name__ == "__main__":
    main()
