#!/usr/bin/env python3
"""Take the speakers with the most text out of a play script.

    Tools/speakers.py input.txt --count 8 > speakers.jsonl            # one JSON line per speech: {"speaker", "text"}
    Tools/speakers.py input.txt --skip 8 --count 4 --text > server.txt

A play script is a text whose speeches are parted by blank lines and begin with a line "SPEAKER:".
"""

import argparse
import collections
import json
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script")
    parser.add_argument("--count", type=int, default=8, help="how many speakers")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many with more text")
    parser.add_argument("--text", action="store_true", help="write plain text instead of JSON lines")
    arguments = parser.parse_args()

    speeches: dict[str, list[str]] = collections.defaultdict(list)
    with open(arguments.script, encoding="utf-8") as file:
        for speech in file.read().strip().split("\n\n"):
            name, colon, words = speech.partition(":\n")
            if colon and "\n" not in name:
                speeches[name].append(f"{name}:\n{words}\n\n")
    by_size = sorted(speeches, key=lambda name: -sum(map(len, speeches[name])))
    for name in by_size[arguments.skip : arguments.skip + arguments.count]:
        for text in speeches[name]:
            sys.stdout.write(text if arguments.text else json.dumps({"speaker": name, "text": text}) + "\n")


if __name__ == "__main__":
    main()
