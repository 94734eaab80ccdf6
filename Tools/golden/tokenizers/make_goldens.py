"""Makes the golden files of PeatTokenizers with Hugging Face's tokenizers.

    python Tools/golden/tokenizers/make_goldens.py [--stories FOLDER]

Writes Tests/PeatTokenizersTests/Golden: small tokenizers trained here on text that this script writes, and what they make
of difficult texts. With --stories (a folder with stories260K's tokenizer.json) also token numbers for that tokenizer;
the tokenizer itself is not copied. Needs `pip install tokenizers`; the version goes into manifest.json.
"""

import argparse
import json
import pathlib
import platform
import random

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
    ]
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
    pre_parts += [{"type": "Whitespace"}, {"type": "WhitespaceSplit"}]
    pre_parts += [{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True}]}]
    result = []
    for part in normalizer_parts:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(normalizer=part)))
        result.append({"key": "normalizer", "part": json.dumps(part, ensure_ascii=False), "pieces": [[p] if (p := tokenizer.normalizer.normalize_str(t)) else [] for t in TEXTS]})
    for part in pre_parts:
        tokenizer = Tokenizer.from_str(json.dumps(minimal(pre_tokenizer=part)))
        result.append({"key": "pre_tokenizer", "part": json.dumps(part, ensure_ascii=False), "pieces": [[p for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str(t)] if t else [] for t in TEXTS]})
    return result


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
    ]
    token_lists = [
        ["\u2581Hello", "\u2581", "wor", "ld", "\u2581a\u2581b"],
        ["\u2581\u2581\u2581two", " x ", "  y"],
        ["<0xE4>", "<0xB8>", "<0xAD>", "a", "<0xFF>", "<0xE4>", "b", "<0x41>", "<0xe4>"],
        ["<0xF0>", "<0x9F>", "<0x99>"],
        ["ĠHello", "Ċ", "Ã", "©", "ðŁ", "ĻĤ", "ä¸", "x", "Ŀ"],
        ["aaab", "aba", "a", "aa", "b", "baa"],
        ["é", "e\u0301", "中", "x y"],
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


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--stories", type=pathlib.Path)
    arguments = arguments.parse_args()
    text = corpus(random.Random(SEED))
    makers = {"gpt2-style": gpt2_style, "sentencepiece-style": sentencepiece_style, "metaspace": metaspace, "llama3-style": llama3_style}
    for name, maker in makers.items():
        tokenizer = maker(text)
        (GOLDEN / name).mkdir(parents=True, exist_ok=True)
        if name == "gpt2-style":
            # As trained, for the trainer's own test.
            (GOLDEN / "trainer-corpus.txt").write_bytes(text.encode())
            write(GOLDEN / "trainer-vocabulary.json", {key: json.loads(tokenizer.to_str())["model"][key] for key in ("vocab", "merges")})
        tokenizer.add_special_tokens(SPECIALS)
        tokenizer.add_tokens(PLAIN)
        (GOLDEN / name / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
        # From the file, as a user has it.
        tokenizer = Tokenizer.from_file(str(GOLDEN / name / "tokenizer.json"))
        write(GOLDEN / name / "cases.json", {
            "encodings": cases(tokenizer, TEXTS), "decodings": decodings(tokenizer, random.Random(f"{SEED} {name}"))})
    write(GOLDEN / "parts.json", {"texts": TEXTS, "cases": parts()})
    write(GOLDEN / "decoders.json", decoder_parts())
    if arguments.stories:
        tokenizer = Tokenizer.from_file(str(arguments.stories / "tokenizer.json"))
        own = [
            "Once upon a time, there was a little dog named Max. He loved to run in the park.",
            "\"Look, Mom!\" said Lily. \"I can see a big, red ball.\"\n\nHer mom smiled and said, \"Yes, dear.\"",
            "Tim didn't want to share his toys... but then he was sad.",
            "The end.\n",
        ]
        write(GOLDEN / "stories260K.json", {
            "encodings": cases(tokenizer, own + TEXTS), "decodings": decodings(tokenizer, random.Random(f"{SEED} stories"))})
    write(GOLDEN / "manifest.json", {
        "script": "Tools/golden/tokenizers/make_goldens.py", "seed": SEED, "tokenizers": tokenizers.__version__,
        "python": platform.python_version()})


if __name__ == "__main__":
    main()
