"""Turns Debian's fortunes-zh (Tang and Song poems, public domain) into poems.jsonl.

usage: chinese.py POEMS...

Writes into the current folder: one {"text": ...} per poem. A poem's colour codes are dropped; a line "%" ends it.
"""

import json
import re
import sys

_COLOUR = re.compile(r"\x1b\[\d*m")


def main(paths):
    with open("poems.jsonl", "w") as out:
        for path in paths:
            with open(path) as file:
                text = _COLOUR.sub("", file.read())
            for poem in re.split(r"^%\s*$", text, flags=re.MULTILINE):
                if poem.strip():
                    out.write(json.dumps({"text": poem.strip()}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
