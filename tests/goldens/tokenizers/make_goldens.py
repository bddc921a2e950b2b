"""Makes the tokenizers of this folder and the ids that Hugging Face's tokenizers gives with them.

Each tokenizer is a small byte-level BPE, trained on texts.py, with the normalizer,
pre-tokenizer, added tokens and post-processor of a well-known family, or with odd ones.

Example (tokenizers 0.23.3, transformers 5.17.0):
  python make_goldens.py
  python make_goldens.py --only-expected smollm2_real /path/to/SmolLM2   # ids of a tokenizer that is not kept here
"""
import json
import os
import shutil
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from texts import TEXTS

HERE = os.path.dirname(os.path.abspath(__file__))
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = ["\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(prefix=False, use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def special(*contents):
    return [AddedToken(c, special=True, normalized=False) for c in contents]


ODD_TOKENS = [
    AddedToken("<L>", lstrip=True), AddedToken("<R>", rstrip=True), AddedToken("<B>", lstrip=True, rstrip=True),
    AddedToken("<W>", single_word=True), AddedToken("single", single_word=True), AddedToken("<né>", normalized=True),
    AddedToken("Café", normalized=True), AddedToken("<|im", normalized=False), AddedToken("  \n", normalized=False),
]

# name: (normalizer, steps of the pre-tokenizer, added tokens, changes of the model, tokenizer_config.json)
VARIANTS = {
    "gpt2": (None, [byte_level(use_regex=True)], special("<|endoftext|>"), {}, {"model_max_length": 1024}),
    "qwen2": (normalizers.NFC(), [split(CL100K % ""), byte_level()],
              special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), {},
              {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "model_max_length": 131072}),
    "llama3": (None, [split(CL100K % "{1,3}"), byte_level()],
               special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), {"ignore_merges": True},
               {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}),
    "smollm2": (None, [pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)],
                special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), {"drop_bytes": True},
                {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}),
    "deepseek": (normalizers.Sequence([]), [split(p) for p in DEEPSEEK] + [byte_level()],
                 special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), {},
                 {"eos_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>", "normalized": True},
                  "bos_token": "<｜begin▁of▁sentence｜>", "pad_token": "<pad>"}),
    "qwen35": (None, [split(QWEN35), byte_level()], special("<|endoftext|>"), {}, {}),
    "o200k": (None, [split(O200K), byte_level()], special("<|endoftext|>"), {}, {}),
    "odd": (normalizers.Sequence([normalizers.NFC()]), [pre_tokenizers.Digits(), byte_level(True, True)],
            special("<unk>") + ODD_TOKENS, {"unk_token": "<unk>", "fuse_unk": True, "drop_bytes": True},
            {"unk_token": "<unk>", "additional_special_tokens": ["<extra_0>", "<extra_1>"], "image_token": "<image>"}),
    "splits": (None, [split(r"[aeiou]", "merged_with_previous"), split(r"\s+$", "merged_with_next"),
                      split("x", "removed"), split(r"\p{P}", "contiguous"), split(r"[^A-Z]+", "isolated", True),
                      pre_tokenizers.Split("é", "merged_with_next"), byte_level()], [], {}, {}),
}


def training_text():
    lines = list(TEXTS)
    for name in ("texts.py", "make_unicode_classes.py"):
        with open(os.path.join(HERE, name), encoding="utf-8") as f:
            lines += f.read().splitlines(keepends=True)
    return lines


def build(normalizer, steps, tokens, changes):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    raw = json.loads(tokenizer.to_str())
    changes = dict(changes)
    if changes.pop("drop_bytes", False):
        # Bytes that no text of a real tokenizer's training had. Merges need the tokens they join, so only such go.
        used = {part for merge in raw["model"]["merges"] for part in merge}
        for token in [t for t in raw["model"]["vocab"] if len(t) == 1 and t not in used][:21]:
            del raw["model"]["vocab"][token]
        raw["model"]["vocab"] = {t: i for i, t in enumerate(raw["model"]["vocab"])}
    if changes.get("unk_token"):
        raw["model"]["vocab"][changes["unk_token"]] = len(raw["model"]["vocab"])
    raw["model"].update(changes)
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    tokenizer.add_tokens(tokens)
    bos = next((t.content for t in tokens if "begin" in t.content), None)
    if bos is None:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        template = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def write_json(path, value, indent=None):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=indent, separators=(",", ":") if indent is None else None)
        f.write("\n")


def expected(tokenizer):
    """`tokenizer` is a PreTrainedTokenizerFast, which reads all files of the folder."""
    ids = [tokenizer(t)["input_ids"] for t in TEXTS]
    return {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,
        "bos_id": tokenizer.bos_token_id, "eos_id": tokenizer.eos_token_id, "pad_id": tokenizer.pad_token_id,
        "ids": ids,
        "plain_ids": [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS],
        "decoded": [tokenizer.backend_tokenizer.decode(i, skip_special_tokens=False) for i in ids],
        "decoded_without_special": [tokenizer.backend_tokenizer.decode(i, skip_special_tokens=True) for i in ids],
    }


def main():
    if sys.argv[1:2] == ["--only-expected"]:
        name, folder = sys.argv[2:]
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        write_json(os.path.join(HERE, name + ".expected.json"), expected(tokenizer))
        return
    write_json(os.path.join(HERE, "texts.json"), TEXTS, indent=0)
    for name, (normalizer, steps, tokens, changes, config) in VARIANTS.items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        raw = json.loads(build(normalizer, steps, tokens, changes).to_str())
        write_json(os.path.join(folder, "tokenizer.json"), raw)
        write_json(os.path.join(folder, "tokenizer_config.json"), config, indent=2)
        write_json(os.path.join(folder, "expected.json"), expected(PreTrainedTokenizerFast.from_pretrained(folder)))
    # What transformers makes of another tokenizer beside a Qwen2 model.
    folder = os.path.join(HERE, "smollm2_in_qwen2")
    os.makedirs(folder, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(HERE, "smollm2", name), folder)
    write_json(os.path.join(folder, "config.json"), {"model_type": "qwen2"}, indent=2)
    write_json(os.path.join(folder, "expected.json"), expected(AutoTokenizer.from_pretrained(folder)))


if __name__ == "__main__":
    main()
