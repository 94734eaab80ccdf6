"""A small table of replacements in sentencepiece's binary form ("precompiled_charsmap")."""

import base64
import struct
import unicodedata


def entries():
    """What is replaced: compatibility characters, white space, control characters, some clusters of two scalars."""
    result = {}
    for low, high in [(0xA0, 0x180), (0x1C4, 0x1CD), (0x2000, 0x2100), (0x2100, 0x2150), (0x2460, 0x2480), (0xFB00, 0xFB07), (0xFF01, 0xFF5F), (0x3000, 0x3001), (0x3300, 0x3310), (0x1D400, 0x1D420)]:
        for value in range(low, high):
            text = unicodedata.normalize("NFKC", chr(value))
            if text != chr(value):
                result[chr(value)] = text
    for value in list(range(1, 9)) + list(range(0xE, 0x20)) + [0x7F, 0x8F, 0x9F, 0xAD]:
        result[chr(value)] = ""
    for text in ["\t", "\n", "\r", "\x0c", "\r\n", "\u200b", "\u200e", "\ufeff", "\ufffd", "\u00a0", "\u2028", "\u2581"]:
        result[text] = " "
    for base in "aeiouAEIOUnc":
        for mark in "\u0300\u0301\u0302\u0303\u0308\u0327":
            text = unicodedata.normalize("NFC", base + mark)
            if len(text) == 1:
                result[base + mark] = text
    result["\u30ab\u3099"] = "\u30ac"
    result["\u0f73"] = "\u0f71\u0f72"
    return result


def encoded(mapping):
    """The table in base64: the trie's size, its units (darts-clone), the replacements."""
    texts, offsets = bytearray(), {}
    for replacement in sorted(set(mapping.values())):
        offsets[replacement] = len(texts)
        texts += replacement.encode() + b"\0"
    tree = {}
    for text, replacement in sorted(mapping.items()):
        node = tree
        for byte in text.encode():
            node = node.setdefault(byte, {})
        node[0] = offsets[replacement]
    units, used, bases = {0: 0}, {0}, set()

    def place(node, position, label):
        base = 1
        while base in bases or any(base ^ byte in used for byte in node):
            base += 1
        bases.add(base)
        used.update(base ^ byte for byte in node)
        units[position] = label | (1 << 8 if 0 in node else 0) | (position ^ base) << 10
        for byte, child in node.items():
            if byte == 0:
                units[base] = 1 << 31 | child
            else:
                place(child, base ^ byte, byte)

    place(tree, 0, 0)
    size = (max(units) | 255) + 1
    trie = b"".join(struct.pack("<I", units.get(index, 0)) for index in range(size))
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + bytes(texts)).decode()
