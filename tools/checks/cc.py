"""Checks of C++: includes, calls and forms that the design forbids."""

import re

from checks import source as files

_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
_BROAD_TORCH = re.compile(r"(torch/(all|extension|nn|script|torch|types)\.h|ATen/(ATen|Functions)\.h)")
_BROAD_TORCH_ALLOWED = files.ROOT / "tools" / "checks" / "broad_torch_headers.txt"

# (pattern, where: a predicate of the file, message)
_CALLS = [
    (re.compile(r"\btorch::(load|jit|save)\b|\b[Pp]ickle\w*\s*\("), lambda file: True,
     "no pickle: a checkpoint is safetensors"),
    (re.compile(r"(?!.*\bgenerator\b).*("
                r"\b(at|torch)::(\w*_)?(rand|randn|randint|randperm|bernoulli|dropout|multinomial|normal)(_like)?\s*\(|"
                r"\b(at|torch)::manual_seed\b|\b(default|getDefaultCPU)Generator\b|"
                r"[.>](uniform|normal|bernoulli|random|exponential)_\()"),
     lambda file: not file.is_test,
     "LibTorch's default generator depends on what ran before; use lathe/base/random.h, or pass a generator"),
    (re.compile(r"\bkFloat(32)?\b|\bScalarType::Float\b"),
     lambda file: not file.is_test and file.path.startswith(("layers/", "models/", "tensor_parallel/", "zero/")),
     "an upcast is max(dtype, float32), so that float64 tests run the same code; see layers/precision.h"),
    (re.compile(r"\busing\s+namespace\s+(?![\w:]*literals)"), lambda file: True, "using namespace"),
    (re.compile(r"^\s*#\s*pragma\s+once"), lambda file: True, "include guards, not #pragma once"),
    (re.compile(r"\bstd::(cout|cerr)\b|(?<![\w:.])f?printf\("),
     lambda file: not file.is_test and not file.path.startswith(("launchers/", "trainer/", "base/", "third_party/")),
     "a library does not print; log with lathe/base/logging.h or return a Status"),
]
_FUNCTION_LINES = 60
_NOT_FUNCTION = ("namespace", "class", "struct", "enum", "union", "template", "using", "extern", "TEST")


def check_all(cc_files, problems):
    own_headers = {file.path for file in cc_files if file.path.endswith(".h")}
    broad_allowed = {line.split(":")[0] for line in _BROAD_TORCH_ALLOWED.read_text().splitlines()}
    for file in cc_files:
        _check_includes(file, own_headers, broad_allowed, problems)
        for number, line in file.code():
            for pattern, applies, message in _CALLS:
                if applies(file) and pattern.search(line):
                    problems.error("%s:%d" % (file.path, number), "%s: %s" % (message, line.strip()))
        if file.path.endswith(".h"):
            _check_guard(file, problems)
        _check_function_lengths(file, problems)


def _check_includes(file, own_headers, broad_allowed, problems):
    for number, line in file.code():
        found = _INCLUDE.match(line)
        if not found:
            continue
        place, header = "%s:%d" % (file.path, number), found[1]
        if _BROAD_TORCH.fullmatch(header) and file.path not in broad_allowed:
            problems.error(place, "%s takes seconds to compile; include the narrowest header" % header)
        if header.startswith(("glog/", "gflags/")) and not file.path.startswith("base/logging."):
            problems.error(place, "logging goes through lathe/base/logging.h")
        if header in own_headers or header.startswith("../"):
            problems.error(place, 'write "lathe/%s": a client\'s own file would shadow this one' % header)


def _check_guard(file, problems):
    guard = "LATHE_%s_" % re.sub(r"\W", "_", file.path).upper()
    text = "\n".join(file.lines)
    if "#ifndef %s\n#define %s\n" % (guard, guard) not in text:
        problems.error(file.path, "its include guard is to be %s" % guard)


def _check_function_lengths(file, problems):
    """Warns of long functions: by layout, from a line at the left margin to the next `}` there."""
    start = None
    for number, line in enumerate(file.lines, 1):
        if line == "}" and start:
            if number - start + 1 > _FUNCTION_LINES:
                problems.warning("%s:%d" % (file.path, start), "a function of %d lines" % (number - start + 1))
            start = None
        elif line and line[0] not in " \t#/}" and not line.endswith(";"):
            start = None if line.startswith(_NOT_FUNCTION) else start or number
        elif line.endswith(";") and line[0] not in " \t":
            start = None
