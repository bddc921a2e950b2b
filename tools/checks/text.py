"""Checks of every file's text and name: what must not appear anywhere."""

import pathlib
import re

from checks import source as files

# Package registries are reached through pip and apt-get, which know their hosts.
_HOST = re.compile(r"\b(pypi|pythonhosted|debian|ubuntu|npmjs|docker|anaconda|huggingface)\.(org|com|net|co|io)\b")
# Where this repository and the user's home happen to be.
_MACHINE_PATH = re.compile("|".join(
    re.escape(str(path)) + r"/\w" for path in (files.ROOT, pathlib.Path.home())) + r"|\.\./shared\b")
_MERGE_MARKER = re.compile(r"^(<{7}|>{7})( |$)")
_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
_SHAPELESS_NAME = re.compile(r"(^|[_/])(util|utils|helper|helpers|core|misc)([_./]|$)|[a-z]Utils?\b")
_MAX_LINES = 600
_WARN_LINES = {".cc": 400, ".h": 200}


def check(source, problems):
    if _SHAPELESS_NAME.search(source.path) or re.search(r"(?<!models)(^|/)common/", source.path):
        problems.error(source.path, "no file or folder is called util, helper, core, misc or common (but models/common)")
    _check_size(source, problems)
    patterns = [
        (_HOST, "name of a package registry's host"),
        (_MACHINE_PATH, "path of one machine"),
        (_MERGE_MARKER, "merge marker"),
        (_UNFINISHED, "unfinished work belongs in an issue"),
    ]
    if source.path.startswith("tools/checks/"):
        patterns = patterns[:3]
    allowed = {number for number, _ in source.code()}
    for number, line in enumerate(source.lines, 1):
        for pattern, message in patterns:
            found = pattern.search(line)
            if found and number in allowed:
                problems.error("%s:%d" % (source.path, number), "%s: %s" % (message, found[0].strip()))
        if line != line.rstrip() and not source.path.endswith(".md"):
            problems.error("%s:%d" % (source.path, number), "white space at the end of the line")


def _check_size(source, problems):
    lines = len(source.lines) - 1
    suffix = "." + source.path.rsplit(".", 1)[-1]
    if suffix not in (".cc", ".h", ".py", ".bzl", ".sh") or source.path.endswith("_tables.cc"):
        return
    if lines > _MAX_LINES:
        problems.error(source.path, "%d lines; split a file before it passes %d" % (lines, _MAX_LINES))
    elif lines > _WARN_LINES.get(suffix, _MAX_LINES):
        problems.warning(source.path, "%d lines, over %d" % (lines, _WARN_LINES[suffix]))
