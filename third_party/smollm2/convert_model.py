"""Converts SmolLM2's GGUF file to Hugging Face's config.json, generation_config.json and model.safetensors.

usage: convert_model.py MODEL.gguf

Writes into the current folder. The weights become float32: what a 4-bit block stands for (scale * quant + minimum) does
not fit a smaller type.
"""

import array
import json
import multiprocessing
import struct
import sys

import gguf

_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def hugging_face_name(name):
    if not name.startswith("blk."):
        return _NAMES[name]
    _, layer, rest = name.split(".", 2)
    return "model.layers.%s.%s" % (layer, _NAMES[rest])


def undo_rope_permutation(values, rows, columns, heads):
    """GGUF interleaves the two halves of each head's rotary dimensions (rows); Hugging Face keeps them apart."""
    size = rows // heads
    out = array.array("f")
    for head in range(heads):
        for half in range(2):
            for row in range(size // 2):
                begin = (head * size + 2 * row + half) * columns
                out.extend(values[begin:begin + columns])
    return out


def convert(job):
    path, index = job
    file = gguf.File(path)
    tensor = file.tensors[index]
    values = file.values(tensor)
    llama = {key: file.metadata["llama." + key] for key in ("attention.head_count", "attention.head_count_kv")}
    if tensor.name.endswith("attn_q.weight"):
        values = undo_rope_permutation(values, *tensor.shape, llama["attention.head_count"])
    elif tensor.name.endswith("attn_k.weight"):
        values = undo_rope_permutation(values, *tensor.shape, llama["attention.head_count_kv"])
    return values.tobytes()


def write_weights(path, file, out):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in file.tensors:
        end = offset + 4 * tensor.elements
        header[hugging_face_name(tensor.name)] = {
            "dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    with multiprocessing.Pool() as pool:
        for data in pool.imap(convert, [(path, index) for index in range(len(file.tensors))]):
            out.write(data)


def config(metadata):
    def of(key):
        return metadata["llama." + key]

    def shortest(value):
        """The float64 that is meant by a float32: 1e-05, not 9.999999747378752e-06."""
        return float("%.7g" % value)

    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "max_position_embeddings": of("context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": of("attention.head_count"),
        "num_hidden_layers": of("block_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "rms_norm_eps": shortest(of("attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest(of("rope.freq_base")),
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": of("vocab_size"),
    }


def main(path):
    file = gguf.File(path)
    with open("config.json", "w") as out:
        out.write(json.dumps(config(file.metadata), indent=2) + "\n")
    with open("generation_config.json", "w") as out:
        ids = {"%s_token_id" % short: file.metadata["tokenizer.ggml.%s_token_id" % long]
               for short, long in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
        out.write(json.dumps({"_from_model_config": True, **ids}, indent=2) + "\n")
    with open("model.safetensors", "wb") as out:
        write_weights(path, file, out)


if __name__ == "__main__":
    main(sys.argv[1])
