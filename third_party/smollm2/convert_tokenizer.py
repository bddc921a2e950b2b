"""Converts the tokenizer inside SmolLM2's GGUF file to Hugging Face's tokenizer.json and tokenizer_config.json.

usage: convert_tokenizer.py MODEL.gguf

Writes into the current folder. GGUF names the pre-tokenizer ("smollm") without describing it: each digit on its own,
then GPT-2's byte-level expression.
"""

import json
import sys

import gguf

_CONTROL = 3  # GGUF's token type of special tokens


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **options}


def main(path):
    metadata = gguf.File(path).metadata

    def of(key):
        return metadata["tokenizer.ggml." + key]

    if of("model") != "gpt2" or of("pre") != "smollm":
        raise SystemExit("%s: expected a smollm tokenizer, found %s, %s" % (path, of("model"), of("pre")))
    tokens = of("tokens")
    special = [
        {"id": index, "content": tokens[index], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for index, kind in enumerate(of("token_type")) if kind == _CONTROL]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level()]},
        "post_processor": None,
        "decoder": byte_level(add_prefix_space=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in of("merges")],
        },
    }
    with open("tokenizer.json", "w") as out:
        out.write(json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n")
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in token if key != "id"} for token in special},
        "additional_special_tokens": [tokens[of("bos_token_id")], tokens[of("eos_token_id")]],
        "bos_token": tokens[of("bos_token_id")],
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[of("eos_token_id")],
        "model_max_length": metadata["llama.context_length"],
        "pad_token": tokens[of("padding_token_id")],
        # The class that follows tokenizer.json; transformers 5's GPT2Tokenizer puts a pre-tokenizer of its own.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[of("unknown_token_id")],
        "vocab_size": len(tokens),
    }
    with open("tokenizer_config.json", "w") as out:
        out.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
