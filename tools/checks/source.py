"""The repository's files, as the checks see them."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ALLOW = re.compile(r"presubmit: allow \S")


class Problems:
    """What the checks found. An error fails the presubmit, a warning does not."""

    def __init__(self):
        self.errors = []
        self.warnings = []

    def error(self, place, message):
        self.errors.append("%s: error: %s" % (place, message))

    def warning(self, place, message):
        self.warnings.append("%s: warning: %s" % (place, message))


class Source:
    """A text file of the repository: `path` relative to its root, `lines`."""

    def __init__(self, path, text):
        self.path = path
        self.lines = text.split("\n")

    @property
    def is_cc(self):
        return self.path.endswith((".cc", ".h"))

    @property
    def is_test(self):
        return self.path.startswith("tests/") or self.path.endswith(("_test.cc", "_benchmark.cc"))

    def code(self):
        """Yields (line number, line without its // comment), except lines allowed by a comment on or above them.

        The comment is `// presubmit: allow REASON`.
        """
        previous = ""
        for number, line in enumerate(self.lines, 1):
            if not ALLOW.search(line) and not ALLOW.search(previous):
                yield number, re.sub(r"//.*", "", line) if self.is_cc else line
            previous = line


def sources():
    """Every text file that is tracked, or new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in sorted(set(listing.split("\0")) - {""}):
        file = ROOT / path
        if file.is_file() and not file.is_symlink():
            try:
                yield Source(path, file.read_text())
            except UnicodeDecodeError:
                continue  # Binary data: nothing to check.
