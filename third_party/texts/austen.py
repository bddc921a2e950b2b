"""Turns the R package janeaustenr (Jane Austen's six novels, public domain) into train.jsonl and validation.jsonl.

usage: austen.py Rdata.rdb

Writes into the current folder: one {"text": ...} per chapter, its paragraphs unwrapped and separated by blank lines.
Every twentieth chapter is for validation, so both files hold all six novels.

The .rdb file is a row of chunks: four bytes (big-endian) with the size of what follows unpacked, then a zlib stream. What
it unpacks to is R's serialisation of a character vector, one string per printed line.
"""

import json
import re
import struct
import sys
import zlib

_CHAPTER = re.compile(r"chapter [ivxlc0-9]+\.?", re.IGNORECASE)
_VOLUME = re.compile(r"volume [ivx]+", re.IGNORECASE)
_VALIDATION_EVERY = 20


def chunks(data):
    while data:
        stream = zlib.decompressobj()
        yield stream.decompress(data[4:])
        data = stream.unused_data


def strings(data):
    """The elements of a serialised character vector (format version 3, big-endian)."""
    (encoding_size,) = struct.unpack_from(">i", data, 14)
    position = 18 + encoding_size
    kind, count = struct.unpack_from(">ii", data, position)
    if data[:2] != b"X\n" or kind & 0xFF != 16:
        raise SystemExit("austen.py: expected an R character vector")
    position += 8
    for _ in range(count):
        _, size = struct.unpack_from(">ii", data, position)
        position += 8
        yield data[position:position + size].decode()
        position += size


def chapters(lines):
    """Yields each chapter's text; what stands before the first one (title, author) is left out."""
    paragraphs, started = [[]], False
    for line in list(lines) + ["Chapter 0"]:
        line = line.strip()
        if _CHAPTER.fullmatch(line):
            text = "\n\n".join(" ".join(paragraph) for paragraph in paragraphs if paragraph)
            if started and text:
                yield text
            paragraphs, started = [[]], True
        elif not line or _VOLUME.fullmatch(line):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)


def main(path):
    with open(path, "rb") as file:
        novels = [list(chapters(strings(chunk))) for chunk in chunks(file.read())]
    count = 0
    with open("train.jsonl", "w") as train, open("validation.jsonl", "w") as validation:
        for chapter in (chapter for novel in novels for chapter in novel):
            count += 1
            out = train if count % _VALIDATION_EVERY else validation
            out.write(json.dumps({"text": chapter}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
