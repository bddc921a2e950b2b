"""Who may depend on whom: the table, and the check that tools/defs.bzl makes of every library.

A folder's row covers its subfolders, unless they have rows of their own. A library may depend on its own row's folders and
on what the row lists: folders, single targets ("models:stage") and packages of third_party. Anything else does not load.
What may not be reached even indirectly follows from that, and //tests/layering asks Bazel to confirm it.

Programs and tests are free: they compose.
"""

# Values, text and messages: no layer of their own.
_GENERAL = ["third_party/absl", "third_party/nlohmann_json", "third_party/protobuf", "third_party/re2"]

_TORCH = ["third_party/torch"]

# Folder -> what its libraries may depend on directly.
LAYERS = {
    "base": ["third_party/glog"],
    "comm": ["base"] + _TORCH,
    "comm/gloo": ["base", "comm", "third_party/gloo"] + _TORCH,
    "comm/nccl": ["base", "comm", "third_party/nccl"] + _TORCH,
    "layers": ["base"] + _TORCH,
    "checkpoint": ["base", "comm"] + _TORCH,
    "datasets": ["base", "datasets/tokenizers", "datasets/chat_templates", "third_party/arrow"] + _TORCH,
    "datasets/tokenizers": ["base", "third_party/pcre2", "third_party/icu", "third_party/sentencepiece"],
    "datasets/chat_templates": ["base", "datasets/tokenizers", "third_party/jinja"],
    "tensor_parallel": ["base", "comm", "layers"] + _TORCH,
    "pipeline_parallel": ["base", "comm", "layers"] + _TORCH,
    "zero": ["base", "comm", "layers", "checkpoint", "third_party/liburing"] + _TORCH,
    "models": ["base", "comm", "layers", "tensor_parallel", "checkpoint"] + _TORCH,
    "peft": ["base", "comm", "layers", "tensor_parallel", "checkpoint"] + _TORCH,
    "generation": ["base", "models", "datasets/tokenizers", "datasets/chat_templates"] + _TORCH,
    "trainer": [
        "base",
        "comm",
        "layers",
        "models:stage",
        "zero",
        "pipeline_parallel",
        "datasets",
        "checkpoint",
        "third_party/tensorboard",
    ] + _TORCH,
}

# Folder -> what nothing in it may reach, even indirectly. //tests/layering names the targets to look at.
UNREACHABLE = {
    "base": ["torch", "comm"],
    "comm": ["layers", "checkpoint", "datasets", "tensor_parallel", "zero", "models", "trainer", "launchers"],
    "layers": ["comm", "checkpoint", "datasets", "tensor_parallel", "zero", "models", "trainer", "launchers"],
    "checkpoint": ["tensor_parallel", "pipeline_parallel", "zero", "models", "peft", "trainer", "launchers"],
    "datasets": ["comm", "layers", "models", "trainer", "launchers"],
    "datasets/tokenizers": ["torch", "comm", "layers", "models", "trainer", "launchers"],
    "datasets/chat_templates": ["torch", "comm", "layers", "models", "trainer", "launchers"],
    "tensor_parallel": ["pipeline_parallel", "zero", "models", "peft", "trainer", "launchers"],
    "pipeline_parallel": ["tensor_parallel", "zero", "models", "peft", "trainer", "launchers"],
    "zero": ["models", "tensor_parallel", "pipeline_parallel", "peft", "trainer", "launchers"],
    "models": ["peft", "zero", "trainer", "pipeline_parallel", "launchers"],
    "peft": ["models", "trainer", "launchers"],
    "generation": ["trainer", "zero", "launchers"],
    "trainer": ["models/llama", "models:auto_model", "peft", "launchers"],
}

def layer(package):
    """The row that a package belongs to: the longest that leads to it; None for programs, tests and tools."""
    best = None
    for folder in LAYERS:
        if (package + "/").startswith(folder + "/") and (best == None or len(folder) > len(best)):
            best = folder
    return best

def check_layering(name, deps):
    """Fails unless the library `name` of the package that is being loaded may depend on `deps`."""
    package = native.package_name()
    row = layer(package)
    if row == None:
        return
    allowed = LAYERS[row] + _GENERAL
    for dep in deps:
        if dep.startswith(":"):
            continue
        if not dep.startswith("//"):
            fail("//%s:%s: write the dependency %s as //folder:target" % (package, name, dep))
        target = dep[2:]
        folder = target.split(":")[0]
        if row != layer(folder) and layer(folder) not in allowed and folder not in allowed and target not in allowed:
            fail("//%s:%s may not depend on %s: %s may use %s (tools/layering.bzl)" %
                 (package, name, dep, row, ", ".join(allowed)))
