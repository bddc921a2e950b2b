"""Unpacks the wanted part of a wheel or of a source archive.

usage: unpack.py ARCHIVE DESTINATION STRIP_COMPONENTS [INCLUDE...] [!EXCLUDE...]

A pattern is a shell glob over the whole path inside the archive, after stripping; `*` also matches `/`. A file is
unpacked if it matches an INCLUDE (or none is given) and no EXCLUDE. The archive's own Bazel files are left out.
"""

import fnmatch
import os
import re
import sys
import tarfile
import zipfile


def matcher(patterns):
    return re.compile("|".join(fnmatch.translate(p) for p in patterns)).match


def main(archive, destination, strip, patterns):
    includes = [p for p in patterns if not p.startswith("!")] or ["*"]
    excludes = [p[1:] for p in patterns if p.startswith("!")] + ["BUILD", "*/BUILD", "*BUILD.bazel", "WORKSPACE"]
    included = matcher(includes)
    excluded = matcher(excludes)

    def target(path):
        parts = path.split("/")
        if path.startswith("/") or ".." in parts:
            sys.exit("unpack.py: %s holds an unsafe path: %s" % (archive, path))
        path = "/".join(parts[int(strip):])
        if not path or not included(path) or excluded(path):
            return None
        return os.path.join(destination, path)

    written = 0
    if archive.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as source:
            for info in source.infolist():
                path = None if info.is_dir() else target(info.filename)
                if path:
                    write(path, source.open(info), info.external_attr >> 16)
                    written += 1
    else:
        with tarfile.open(archive) as source:
            for info in source:
                path = target(info.name) if info.isfile() else None
                if path:
                    write(path, source.extractfile(info), info.mode)
                    written += 1
    if written == 0:
        sys.exit("unpack.py: nothing in %s matches %s" % (archive, patterns))


def write(path, stream, mode):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with stream, open(path, "wb") as out:
        while block := stream.read(1 << 22):
            out.write(block)
    os.chmod(path, 0o755 if mode & 0o100 else 0o644)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
