"""Makes the model goldens: tiny random models of transformers with inputs, logits, loss and every gradient.

Needs torch 2.11.0 and transformers 5.17.0:  python make_goldens.py  (writes beside itself)
Each case is a folder: config.json, model.safetensors (both as save_pretrained writes them) and golden.safetensors with
input_ids, logits, loss and grad.NAME of the mean cross-entropy over shifted labels.
"""
import os

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = dict(vocab_size=61, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
CASES = {
    "llama_default": (LlamaConfig, dict(tie_word_embeddings=False)),
    "llama_tied_bias_head_dim": (LlamaConfig, dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=6,
                                                   rms_norm_eps=1e-3, pad_token_id=3)),
    "llama_linear": (LlamaConfig, dict(rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0})),
    "llama_dynamic": (LlamaConfig, dict(max_position_embeddings=16,
                                        rope_parameters={"rope_type": "dynamic", "factor": 3.0, "rope_theta": 10000.0})),
    "llama_llama3": (LlamaConfig, dict(rope_parameters={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 100.0})),
    "llama_yarn": (LlamaConfig, dict(rope_parameters=YARN)),
    "qwen2_default": (Qwen2Config, dict(tie_word_embeddings=False)),
    "qwen2_tied": (Qwen2Config, dict(tie_word_embeddings=True, num_key_value_heads=1)),
    "qwen2_yarn_mscale": (Qwen2Config, dict(rope_parameters=dict(YARN, mscale=1.2, mscale_all_dim=0.7, beta_fast=16,
                                                                 beta_slow=2, truncate=False))),
    "qwen2_linear": (Qwen2Config, dict(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6})),
}


def main():
    for index, (name, (config_class, overrides)) in enumerate(CASES.items()):
        torch.manual_seed(index)
        config = config_class(**{**SIZES, **overrides})
        model = (LlamaForCausalLM if config_class is LlamaConfig else Qwen2ForCausalLM)(config).float()
        with torch.no_grad():  # biases and norms start at 0 and 1: make them matter
            for key, p in model.named_parameters():
                if key.endswith("bias") or "norm" in key:
                    p.add_(torch.randn_like(p) * 0.3)
        ids = torch.randint(0, config.vocab_size, (2, 24))
        out = model(input_ids=ids, labels=ids)
        out.loss.backward()
        folder = os.path.join(HERE, name)
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "generation_config.json"))
        golden = {"input_ids": ids, "logits": out.logits.detach().contiguous(), "loss": out.loss.detach().reshape(1)}
        golden.update({"grad." + k: p.grad.contiguous() for k, p in model.named_parameters()})
        save_file(golden, os.path.join(folder, "golden.safetensors"))
        print(name, float(out.loss))


if __name__ == "__main__":
    main()
