"""Makes the fine-tuning goldens: what TRL's SFTTrainer, with peft's adapters or without, does with tiny models.

Needs torch 2.11.0, transformers 5.17.0, peft 0.21.2 and trl 1.16.0:
  python make_goldens.py            # beside itself; models and tokenizer are those of ../parity

train.jsonl has rows of prompt and completion, cut out of ../parity/train.jsonl; marked.jsonl has them with tokens of
tokenizer/, which has three more than ../parity's. For each case, CASE.json:
  model, arguments    what the run was started with; the arguments' names are the flags of both programs
  losses, grad_norms  of each update
and, with an adapter, start/CASE/ and end/CASE/: the adapter before and after the run, as peft saved it; of
usual_targets also merged.safetensors, the model with it, as peft merged it.
"""
import json
import os
import shutil

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "parity")
COMMON = dict(max_steps=20, per_device_train_batch_size=3, gradient_accumulation_steps=2, learning_rate=5e-3,
              weight_decay=0.1, warmup_steps=4, lr_scheduler_type="cosine", max_length=60, seed=3)

# name: (model, LoraConfig's arguments or None)
CASES = {
    "full": ("qwen2", None),
    # The same with three tokens more than the model has: resize_token_embeddings.
    "resized": ("qwen2", None),
    # The architecture's own targets; biases of adapted modules are trained too.
    "usual_targets": ("qwen2", dict(r=4, lora_alpha=16, bias="lora_only")),
    # Every linear layer, a rank and an alpha of some; sqrt scaling; all biases.
    "all_linear": ("llama", dict(r=2, lora_alpha=6, target_modules="all-linear", use_rslora=True, bias="all",
                                 rank_pattern={"down_proj": 5, "layers.1.self_attn.q_proj": 3},
                                 alpha_pattern={"o_proj": 11})),
    # An expression, one layer left out, a head that is trained whole.
    "saved_head": ("llama", dict(r=3, lora_alpha=3, target_modules=r".*\.(q_proj|gate_proj|down_proj)",
                                 exclude_modules=r".*layers\.1\.mlp.*", modules_to_save=["lm_head"],
                                 init_lora_weights="gaussian")),
}


def make_rows():
    rows = []
    with open(os.path.join(PARITY, "train.jsonl")) as lines:
        for line in lines:
            words = json.loads(line)["text"].split()
            for i in range(0, len(words) - 24, 24):
                cut = i + 5 + len(rows) % 7
                end = cut + 4 + len(rows) % 11
                rows.append({"prompt": " ".join(words[i:cut]), "completion": " " + " ".join(words[cut:end])})
    for name, prompt, completion in (("train", "{}", "{}"), ("marked", "<|user|>{}<|bot|>", "{}<|end|>")):
        with open(os.path.join(HERE, name + ".jsonl"), "w") as file:
            for row in rows[:60]:
                file.write(json.dumps({"prompt": prompt.format(row["prompt"]),
                                       "completion": completion.format(row["completion"])}) + "\n")


class Losses(TrainerCallback):
    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.logs.append(logs)


def run(name, model_name, lora):
    torch.manual_seed(0)
    train_file = "train.jsonl"
    model = AutoModelForCausalLM.from_pretrained(os.path.join(PARITY, "models", model_name), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(os.path.join(PARITY, "tokenizer"))
    if name == "resized":
        train_file = "marked.jsonl"
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|bot|>", "<|end|>"]})
        tokenizer.save_pretrained(os.path.join(HERE, "tokenizer"))
        model.resize_token_embeddings(len(tokenizer))
    if lora is not None:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
        # So that every tensor of the adapter matters from the first update on.
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "lora_B" in key:
                    value.normal_(std=0.02)
        model.save_pretrained(os.path.join(HERE, "start", name))
    losses = Losses()
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, callbacks=[losses],
        train_dataset=load_dataset("json", data_files=os.path.join(HERE, train_file), split="train"),
        args=SFTConfig(output_dir="/tmp/finetune_goldens", logging_steps=1, save_strategy="no", report_to="none",
                       completion_only_loss=True, bf16=False, gradient_checkpointing=False, use_cpu=True,
                       logging_nan_inf_filter=False, disable_tqdm=True, **COMMON))
    trainer.train()
    if lora is not None:
        model.save_pretrained(os.path.join(HERE, "end", name))
        for folder in ("start", "end"):
            os.remove(os.path.join(HERE, folder, name, "README.md"))
            config_file = os.path.join(HERE, folder, name, "adapter_config.json")
            with open(config_file) as file:
                config = json.load(file)
            config["base_model_name_or_path"] = model_name
            with open(config_file, "w") as file:
                json.dump(config, file, indent=2, sort_keys=True)
    if name == "usual_targets":
        merged = model.merge_and_unload().state_dict()
        del merged["lm_head.weight"]  # tied
        save_file(merged, os.path.join(HERE, "merged.safetensors"))
    with open(os.path.join(HERE, name + ".json"), "w") as file:
        json.dump({"model": model_name, "arguments": COMMON, "losses": [entry["loss"] for entry in losses.logs],
                   "grad_norms": [entry["grad_norm"] for entry in losses.logs]}, file, indent=1)


for folder in ("start", "end"):
    shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
make_rows()
for case, (model_name, lora) in CASES.items():
    run(case, model_name, lora)
