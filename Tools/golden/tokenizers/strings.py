"""The strings on which every tokenizer is compared: seeded, of many scripts and kinds of difficulty."""

import random

# Ranges of letters, a few of each script; those after the first line need marks, joiners or several scalars per sign.
SCRIPTS = [
    (0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x586), (0x10A0, 0x10FF), (0x13A0, 0x13FF),
    (0x5D0, 0x5EA), (0x5B0, 0x5EA), (0x620, 0x64A), (0x620, 0x6D3), (0x710, 0x74A), (0x905, 0x94D), (0x985, 0x9CD), (0xA05, 0xA4D),
    (0xB85, 0xBCD), (0xC05, 0xC4D), (0xD05, 0xD4D), (0xE01, 0xE4E), (0xE81, 0xECD), (0xF40, 0xFBC), (0x1000, 0x1049), (0x1200, 0x137F),
    (0x1780, 0x17D3), (0x1820, 0x18A8), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2C00, 0x2C7F), (0x3041, 0x309F), (0x30A0, 0x30FF), (0x3105, 0x318E),
    (0x4E00, 0x4FFF), (0x9F00, 0x9FFF), (0xA000, 0xA48C), (0xAC00, 0xAD00), (0x1100, 0x11FF), (0xFF00, 0xFFEF), (0x10330, 0x1034A), (0x10400, 0x1044F),
    (0x11080, 0x110C1), (0x12000, 0x12100), (0x1D400, 0x1D4FF), (0x20000, 0x20100), (0x2F800, 0x2F8FF), (0x1E900, 0x1E95F), (0xFB00, 0xFB4F), (0x2460, 0x24FF),
]
EMOJI = [
    "🙂", "👍🏽", "👩‍👩‍👧‍👦", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🇩🇪", "🇫🇷🇩", "❤️", "☺", "1️⃣", "👨🏿‍🚀", "🧑‍💻", "\u200d🙂", "🫠", "🏳️‍🌈",
    "\U0001fae8", "\U0001fadc", "♀️",
]
MARKS = list(range(0x300, 0x370)) + [0x483, 0x591, 0x5BF, 0x64B, 0x651, 0x670, 0x93C, 0x94D, 0xE38, 0xE49, 0xF71, 0xF72, 0xF73, 0x1AB0, 0x1DC0, 0x20D0, 0x3099, 0x309A, 0xFE20, 0x1D165, 0x898, 0x10F46]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085", "\u000b", "\u000c", "\u1680", "\u200b", "\u202f", "\ufeff", "\u2581"]
ENGLISH = "the of and to in that was his it with as for on at by this but from they she which or we an were been have their who would no when there if more out so up said what about into than them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years much where your way down should because long each just state those people too mr how little good world make very year still see own work men day get here old life both between being under three never know same last another while us might great go come since against right came take used himself few house American place again Mara Otto".split()
SIGNS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "—", "…", "«", "»", "“", "”", "‘", "’", "„", "¡", "¿", "。", "、", "！", "•", "§", "°", "€", "±", "×", "→", "∑", "™", "©", "№", "½", "²", "ª", "ﬁ"]
ODD = [
    "<0x41>", "<0xE4><0xB8>", "<0x0A>", "\ufffd", "\ufffd\ufffd", "\uffff", "\U0010ffff", "\ue000", "\u0378", "\u00ad", "\u202e", "\u2066", "Ġtime", "Ċ", "▁the", "##ing", "##", "</w>", "&nbsp;", "\\u00e9", "%E4%B8", "Ã©", "â€™", "\u1fc1", "\u01c4\u030c", "\u1e9e", "İ", "ı", "ſ", "ǅ", "Σ", "ς",
    "\u212b", "\u2126", "\u0344", "\uac01\u11a8", "\u1112\u1161\u11ab", "\u0958", "\u2adc",
]
SPECIAL = ["<s>", "</s>", "<unk>", "<mask>", "<|end|>", "<pad>", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "[PAD]", "<|im_start|>", "<|im_end|>", "<extra_id_0>", "<|startoftext|>", "<|endoftext|>", "one", "Café", "<s", "</s", "[CLS", "<|end|", "<start_of_turn>"]
CODE = ["def f(x):\n    return x**2", "if (a<b&&c) { d+=1; }", "SELECT * FROM t WHERE x='y';", "http://a.b/c?d=e&f=g#h", "user@mail.org", "snake_case", "camelCase", "HTTPServer2", "x_1", "0xFF", "a/b\\c", "{\"k\": [1, 2]}", "<a href='#'>x</a>", "\t\treturn\n", "$HOME", "#!/bin/sh"]
CONTRACTIONS = ["don't", "DON'T", "it's", "IT'S", "we'll", "they've", "I'm", "he'd", "'tis", "''s", "can't\u2019t", "'ſ", "rock'n'roll", " 's", " n't", "do not"]


def _word(chance):
    low, high = chance.choice(SCRIPTS)
    return "".join(chr(chance.randint(low, high)) for _ in range(chance.randint(1, 9)))


def _number(chance):
    kind = chance.randrange(6)
    digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(1, 12)))
    if kind == 0:
        return digits + "." + digits[:2]
    if kind == 1:
        return f"{int(digits):,}"
    if kind == 2:
        return "".join(chance.choice("٠١٢٣٤٥٦٧٨٩०१२३४५") for _ in range(chance.randint(1, 7)))
    if kind == 3:
        return chance.choice(["½", "²³", "Ⅷ", "①②", "𝟙𝟚", "１２３", "〇", "1st", "3D", "10k", "-5", "1e-9"])
    return digits


def _any(chance):
    while True:
        value = chance.choice([chance.randrange(0x80), chance.randrange(0x3000), chance.randrange(0x110000)])
        if not 0xD800 <= value < 0xE000:
            return chr(value)


def _control(chance):
    return chr(chance.choice(list(range(0x20)) + list(range(0x7F, 0xA0))))


def _marked(chance):
    base = chance.choice("aeiouAEIOUnyzαωиक가ｶ ")
    return base + "".join(chr(chance.choice(MARKS)) for _ in range(chance.randint(1, 4)))


PARTS = [
    (30, lambda c: c.choice(ENGLISH)), (8, lambda c: c.choice(ENGLISH).capitalize()), (4, lambda c: c.choice(ENGLISH).upper()),
    (16, _word), (6, _number), (8, lambda c: c.choice(SIGNS)), (3, lambda c: c.choice(SIGNS) * c.randint(2, 9)), (6, lambda c: c.choice(EMOJI)),
    (6, _marked), (4, _control), (5, lambda c: c.choice(SPACES) * c.randint(1, 5)), (5, lambda c: c.choice(ODD)),
    (4, lambda c: c.choice(SPECIAL)), (3, lambda c: c.choice(CODE)), (4, lambda c: c.choice(CONTRACTIONS)), (5, _any),
]


def _mixture(chance):
    weights = [weight for weight, _ in PARTS]
    parts = []
    for _ in range(chance.randint(1, 9)):
        part = chance.choices(PARTS, weights)[0][1](chance)
        parts.append(part)
        if chance.random() < 0.65:
            parts.append(" ")
        elif chance.random() < 0.2:
            parts.append(chance.choice(SPACES))
    return "".join(parts)


def _of_one_kind(chance):
    part = chance.choice(PARTS)[1]
    between = chance.choice(["", "", " ", " ", "\n"])
    return between.join(part(chance) for _ in range(chance.randint(1, 8)))


def strings(seed, count=2400):
    """`count` different strings, the empty one among them; a few are very long words."""
    chance = random.Random(f"{seed} strings")
    result = {"": None, " ": None, "\n": None}
    for unit, length in [("a", 99), ("a", 100), ("a", 101), ("ab", 300), ("é", 120), ("中", 101), ("🙂", 60), ("\u0301", 110), ("<", 70), ("1", 90), ("x-", 80), ("loremipsum", 40)]:
        result[unit * length] = None
        result[f"so {unit * length}. then"] = None
    while len(result) < count:
        result[chance.choice([_mixture, _mixture, _of_one_kind])(chance)] = None
    return list(result)


def fingerprint(text):
    """The lowest 16 bits of the FNV-1a hash of a text's UTF-8 bytes, in hexadecimal."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value & 0xFFFF:04x}"
