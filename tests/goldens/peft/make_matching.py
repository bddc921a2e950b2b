"""Makes matching.json: which modules real peft puts an adapter on, for made-up configurations.

Needs peft 0.21.2:
  python make_matching.py [COUNT]     # configurations; 150 are committed, each with 10 names

A case: target_modules (a text or a list), exclude_modules, modules_to_save, layers_to_transform, layers_pattern as in
adapter_config.json; names; matches, whether each is adapted. patterns: keys of rank_pattern, names, and the key of each.
"""
import json
import pathlib
import random
import re
import sys
from types import SimpleNamespace

from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
from peft.utils.other import get_pattern_key

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "norm", "input_layernorm", "embed_tokens",
         "lm_head", "dense", "fc1", "query", "c_attn"]
GROUPS = ["self_attn", "mlp", "attn", "attention", "experts.0", "experts.3.mlp", "block.1.ff"]
STEMS = ["model.layers", "transformer.h", "encoder.layer", "layers", "model.decoder.layers", "h", "base.model.layers"]
PATTERNS = [r".*q_proj", r".*\.(q|v)_proj", r"model\.layers\.\d+\.self_attn\.q_proj", r".*\.layers\.[0-3]\..*proj", r"q_proj",
            r"(?i).*\.Q_PROJ", r".*(attn|mlp)\.[a-z_]+", r"model\.layers\.(1|2|10)\.mlp\.(up|down)_proj", r".*\.\d{1,2}\.self_attn\..*",
            r"[^.]+\.h\.\d+\.attn\.c_attn", r".*proj$", r"^model.*", r".*\.layers\.\d{,1}\.mlp\..*", r".*norm\Z", r"(?:.*\.)?dense",
            r".*\.(?P<kind>q|k)_proj", r".*?_proj", r".+\bmlp\b.+", r"\w+\.\w+\.\d\..*", r"[\w.]*fc1"]


def name(rng):
    if rng.random() < 0.2:
        return rng.choice(["lm_head", "model.embed_tokens", "model.norm", "score", "q_proj", "xq_proj", "model.q_proj_x"])
    return "%s.%d.%s.%s" % (rng.choice(STEMS), rng.choice([0, 1, 2, 3, 7, 10, 31]), rng.choice(GROUPS), rng.choice(PARTS))


def configuration(rng):
    some = lambda values, most: rng.sample(values, rng.randrange(1, most + 1))
    config = dict(target_modules=None, exclude_modules=None, modules_to_save=None, layers_to_transform=None, layers_pattern=None)
    if rng.random() < 0.4:
        config["target_modules"] = rng.choice(PATTERNS)
    else:
        config["target_modules"] = some(PARTS + ["self_attn.q_proj", "mlp", "0.mlp.up_proj"], 4) + (
            [name(rng)] if rng.random() < 0.3 else [])
        if rng.random() < 0.5:
            config["layers_to_transform"] = rng.choice([[0], [1, 2], [0, 3, 10], [31], 7])
            if rng.random() < 0.5:
                config["layers_pattern"] = rng.choice(["layers", "h", ["layers", "h"], ["layer"], "block", "experts"])
    if rng.random() < 0.3:
        config["exclude_modules"] = rng.choice(PATTERNS) if rng.random() < 0.5 else some(PARTS + ["mlp.up_proj"], 2)
    if rng.random() < 0.3:
        config["modules_to_save"] = some(["lm_head", "norm", "embed_tokens", "mlp", "experts", "q_proj", "self_attn.v_proj"], 2)
    return config


def matches(config, module):
    found = check_target_module_exists(SimpleNamespace(target_parameters=None, **config), module)
    return bool(found) and not isinstance(found, _ExcludedModule)


def main(count=150):
    rng = random.Random(3)
    cases, patterns = [], []
    for _ in range(int(count)):
        config, names = configuration(rng), [name(rng) for _ in range(10)]
        cases.append({**{key: value for key, value in config.items() if value is not None}, "names": names,
                      "matches": [matches(config, module) for module in names]})
    for _ in range(int(count) // 5):
        keys = rng.sample([p for p in PATTERNS if "(?i)" not in p] + PARTS + ["self_attn.q_proj", r"layers\.0\..*", "0.mlp.up_proj"], 4)
        names = [name(rng) for _ in range(10)]
        found = [get_pattern_key(keys, module) for module in names]
        patterns.append({"keys": keys, "names": names, "found": [key if key in keys else None for key in found]})
    (HERE / "matching.json").write_text(json.dumps({"cases": cases, "patterns": patterns}) + "\n")
    total = sum(len(case["names"]) for case in cases)
    print(total, "names,", sum(sum(case["matches"]) for case in cases), "match;", len(patterns) * 10, "pattern names,",
          sum(key is not None for entry in patterns for key in entry["found"]), "found")


if __name__ == "__main__":
    main(*sys.argv[1:])
