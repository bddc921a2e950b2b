"""Makes the parity goldens: what transformers' Trainer does with tiny models, a small text and the arguments of a case.

Needs torch 2.11.0, transformers 5.17.0, accelerate 1.15.0 and tokenizers 0.23.3:
  python make_goldens.py            # everything, beside itself
  python make_goldens.py smollm2 MODEL_FOLDER TEXT_FILE     # smollm2.json: logits of SmolLM2-135M on the start of a text
The committed one is of "Pride and Prejudice" with the line breaks of the printed book, from "It is a truth" on.

train.jsonl and validation.jsonl are the first four chapters of Jane Austen's "Pride and Prejudice" (1813), cut into
documents. From them come tokenizer/ (byte-level BPE), models/NAME (start weights) and for each case CASE.json:
  model, arguments    what the run was started with; the arguments' names are the flags of both programs
  state               trainer_state.json after the run
  checkpoints         by name, what is left of each at the end: its trainer_state.json without the history
and CASE.safetensors, the weights after the run, where the case keeps them.
"""
import json
import os
import shutil
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, EarlyStoppingCallback, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments,
                          default_data_collator)

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCK = 32
SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
COMMON = dict(block_size=BLOCK, per_device_train_batch_size=2, gradient_accumulation_steps=4, learning_rate=3e-3,
              weight_decay=0.1, logging_steps=1, save_strategy="no")
EVAL = dict(eval_strategy="steps", per_device_eval_batch_size=3)
BY_HEART = dict(max_train_samples=4, per_device_train_batch_size=4, gradient_accumulation_steps=1, learning_rate=0.02,
                lr_scheduler_type="constant", adam_epsilon=1e-4)  # large: small gradients must not amplify noise

# name: (model, keeps its weights, arguments over COMMON)
CASES = {
    # The project's bars: both orders; warmup, cosine, decay, clipping.
    "random": ("qwen2", True, dict(max_steps=20, warmup_steps=5, lr_scheduler_type="cosine")),
    "sequential": ("qwen2", True, dict(max_steps=20, warmup_steps=5, lr_scheduler_type="cosine", max_grad_norm=0.5,
                                       train_sampling_strategy="sequential")),
    # 47 blocks: 16 batches, the last of 2; 4 updates, the last of 1 batch. Log windows lie across epochs.
    "epochs": ("qwen2", True, dict(max_train_samples=47, per_device_train_batch_size=3, gradient_accumulation_steps=5,
                                   num_train_epochs=2, warmup_steps=0.2, data_seed=7, logging_steps=3,
                                   max_grad_norm=0.0)),
    # Another family, a head of its own, a padding row, and updates that no log line tells of.
    "llama": ("llama", True, dict(max_steps=11, warmup_steps=3, lr_scheduler_type="constant_with_warmup", seed=1,
                                  adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, logging_steps=2,
                                  logging_first_step=True)),
    "stable_decay": ("qwen2", False, dict(max_steps=12, warmup_steps=0.25, lr_scheduler_type="warmup_stable_decay",
                                          lr_scheduler_kwargs={"num_decay_steps": 4, "min_lr_ratio": 0.1},
                                          gradient_accumulation_steps=1, dataloader_drop_last=True)),
    # Evaluation: at every 4th step and at the end; a last batch that is not full. And once more after training.
    "evaluate": ("qwen2", False, dict(EVAL, max_steps=10, eval_steps=4, do_eval=True, logging_steps=3)),
    "fractional_epochs": ("qwen2", False, dict(EVAL, max_train_samples=20, num_train_epochs=1.5, eval_steps=0.4,
                                               logging_steps=0.3, save_strategy="steps", save_steps=0.5)),
    "by_epoch": ("qwen2", False, dict(EVAL, max_train_samples=18, num_train_epochs=3, eval_strategy="epoch",
                                      logging_strategy="epoch", save_strategy="epoch", logging_first_step=True,
                                      per_device_eval_batch_size=8)),
    # Four blocks, learnt by heart: the evaluation gets better, then worse.
    "load_best": ("qwen2", False, dict(EVAL, **BY_HEART, max_steps=11, eval_steps=2, save_strategy="steps", save_steps=4,
                                       save_total_limit=1, load_best_model_at_end=True, logging_steps=4, do_eval=True)),
    "best_without_loading": ("qwen2", False, dict(EVAL, **BY_HEART, max_steps=9, eval_steps=2, save_strategy="steps",
                                                  save_steps=2, save_total_limit=2, metric_for_best_model="eval_loss")),
    "save_best": ("qwen2", False, dict(EVAL, **BY_HEART, max_steps=9, eval_steps=2, save_strategy="best",
                                       save_total_limit=2, metric_for_best_model="loss", logging_steps=5)),
    # The best evaluation is too small a progress to count as one; the next is worse: stop.
    "early_stopping": ("qwen2", False, dict(EVAL, **BY_HEART, max_steps=30, eval_steps=1, save_strategy="steps",
                                            save_steps=1, save_total_limit=2, load_best_model_at_end=True,
                                            early_stopping_patience=2, early_stopping_threshold=0.2)),
    # Better at each evaluation, but never by as much as the threshold; in all by more.
    "small_progress": ("qwen2", False, dict(EVAL, max_steps=12, eval_steps=1, metric_for_best_model="loss",
                                            early_stopping_patience=3, early_stopping_threshold=0.15)),
    "stop_at_epoch": ("qwen2", False, dict(EVAL, **{**BY_HEART, "per_device_train_batch_size": 2}, num_train_epochs=8,
                                           eval_strategy="epoch", logging_strategy="epoch", save_strategy="epoch",
                                           load_best_model_at_end=True, early_stopping_patience=1,
                                           early_stopping_threshold=0.0)),
}
# Of the program, not of TrainingArguments.
OTHER = ("block_size", "max_train_samples", "early_stopping_patience", "early_stopping_threshold")


def read_texts(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(read_texts("train.jsonl"), trainers.BpeTrainer(
        vocab_size=288, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    folder = os.path.join(HERE, "tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def make_models(vocab_size):
    kinds = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True)),
        # Row 68 is a token that the text has: its embedding must not learn.
        "llama": (LlamaConfig, LlamaForCausalLM, dict(tie_word_embeddings=False, pad_token_id=68, mlp_bias=True)),
    }
    for seed, (name, (config_class, model_class, more)) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        model = model_class(config_class(vocab_size=vocab_size, **SIZES, **more))
        with torch.no_grad():  # biases and norms that start at 0 and 1 would hide mistakes
            for key, parameter in model.named_parameters():
                if key.endswith("bias") or "norm" in key:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = os.path.join(HERE, "models", name)
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "generation_config.json"))


def blocks(tokenizer, name):
    """All documents behind one another, cut into blocks; a shorter rest is dropped."""
    stream = [token for text in read_texts(name) for token in tokenizer(text)["input_ids"]]
    cut = [stream[at:at + BLOCK] for at in range(0, len(stream) - BLOCK + 1, BLOCK)]
    return [{"input_ids": block, "labels": list(block)} for block in cut]


def run(case, tokenizer):
    model_name, keeps_weights, overrides = CASES[case]
    arguments = {**COMMON, **overrides}
    with tempfile.TemporaryDirectory() as out:
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "models", model_name), dtype=torch.float32)
        train = blocks(tokenizer, "train.jsonl")
        callbacks = []
        if "early_stopping_patience" in arguments:
            callbacks.append(EarlyStoppingCallback(arguments["early_stopping_patience"],
                                                   arguments["early_stopping_threshold"]))
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=out, use_cpu=True, disable_tqdm=True, report_to="none",
                                   **{key: value for key, value in arguments.items() if key not in OTHER}),
            train_dataset=train[:arguments.get("max_train_samples")],
            eval_dataset=blocks(tokenizer, "validation.jsonl"),
            data_collator=default_data_collator,
            callbacks=callbacks,
        )
        trainer.train()
        if arguments.get("do_eval"):
            trainer.evaluate()
        trainer.save_model()
        trainer.save_state()

        golden = {"model": model_name, "arguments": arguments, "state": read_state(out)}
        golden["checkpoints"] = {}
        for name in sorted(os.listdir(out)):
            if name.startswith("checkpoint-"):
                state = read_state(os.path.join(out, name))
                state["log_history"] = len(state["log_history"])
                golden["checkpoints"][name] = state
        with open(os.path.join(HERE, case + ".json"), "w", encoding="utf-8") as file:
            file.write(json.dumps(golden, indent=1) + "\n")
        if keeps_weights:
            save_file(load_file(os.path.join(out, "model.safetensors")), os.path.join(HERE, case + ".safetensors"))
        print(case, golden["state"]["global_step"], len(train), list(golden["checkpoints"]))


def read_state(folder):
    with open(os.path.join(folder, "trainer_state.json"), encoding="utf-8") as file:
        state = json.load(file)
    for entry in state["log_history"]:
        for key in entry:  # what differs from run to run
            if key.endswith("_runtime") or key.endswith("_per_second"):
                entry[key] = 0.0
    if state["best_model_checkpoint"] is not None:
        state["best_model_checkpoint"] = os.path.basename(state["best_model_checkpoint"])
    return state


def smollm2(model_folder, text_file):
    """Logits of the first 512 tokens of a text: at every 16th position the largest, and at 8 fixed tokens."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    with open(text_file, encoding="utf-8") as text:
        ids = tokenizer(text.read(), return_tensors="pt").input_ids[:, :512]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
    vocabulary = torch.arange(0, logits.shape[1], logits.shape[1] // 8)[:8]
    points = []
    for position in range(0, ids.shape[1], 16):
        for token in sorted({int(logits[position].argmax()), *vocabulary.tolist()}):
            points.append([position, token, float(logits[position, token])])
    golden = {"input_ids": ids[0].tolist(), "mean_nll": float(nll), "points": points}
    with open(os.path.join(HERE, "smollm2.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(golden) + "\n")
    print("smollm2", golden["mean_nll"], len(points))


def main():
    if sys.argv[1:2] == ["smollm2"]:
        smollm2(*sys.argv[2:4])
        return
    torch.set_num_threads(1)
    shutil.rmtree(os.path.join(HERE, "models"), ignore_errors=True)
    tokenizer = make_tokenizer()
    make_models(vocab_size=288)
    for case in CASES:
        run(case, tokenizer)


if __name__ == "__main__":
    main()
