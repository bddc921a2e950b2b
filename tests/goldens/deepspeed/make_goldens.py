"""Makes the DeepSpeed goldens: what DeepSpeed under transformers' Trainer does on two CPU ranks.

Needs torch 2.11.0, transformers 5.17.0, accelerate 1.15.0, deepspeed 0.19.8 and a C++ compiler (DeepSpeed builds its
CPU Adam when it is first used):
  python make_goldens.py            # everything, beside itself

Models, tokenizer and text are those of ../parity. Each case CASE.json has
  model, arguments    what the run was started with; the arguments' names are the flags of both programs
  deepspeed           the configuration file
  history             of each update that was logged: loss, grad_norm, learning_rate

DeepSpeed refuses two things on a CPU that it can do there, so they are lifted: accelerate would have it use NCCL or oneCCL
(here Gloo), and its CPU accelerator says that it has no bf16. What really ran is asserted: engine, stage, precision.
"""
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "parity")
NUM_RANKS = 2

CHAPTER = {  # the seed chapter's file, of which stage and the like are varied
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto",
                                                 "warmup_num_steps": "auto"}},
    "zero_optimization": {"stage": 2, "allgather_partitions": True, "allgather_bucket_size": 2e8, "overlap_comm": True,
                          "reduce_scatter": True, "reduce_bucket_size": 2e8, "contiguous_gradients": True},
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
COMMON = dict(block_size=32, per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=3e-3,
              weight_decay=0.1, warmup_steps=3, max_steps=10, logging_steps=1, save_strategy="no")


def with_stage(stage, **more):
    return {**CHAPTER, "zero_optimization": {**CHAPTER["zero_optimization"], "stage": stage}, **more}


# name: (model, DeepSpeed's file, arguments over COMMON)
CASES = {
    "stage2": ("qwen2", with_stage(2), {}),
    "stage2_bf16": ("qwen2", with_stage(2), {"bf16": True}),
    "stage1_llama": ("llama", with_stage(1), {"max_grad_norm": 0.5}),
    "stage3": ("llama", with_stage(3, zero_optimization={"stage": 3, "stage3_param_persistence_threshold": 0}), {}),
    # No optimizer and no scheduler of DeepSpeed's: Hugging Face's, with its groups of decay.
    "stage2_flags": ("qwen2", {key: value for key, value in with_stage(2).items()
                               if key not in ("optimizer", "scheduler")},
                     {"lr_scheduler_type": "cosine"}),
}


def train(case, result):
    """One rank's part, in a process of its own."""
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    PartialState._prepare_backend = lambda self, *args, **kwargs: ("gloo", DistributedType.MULTI_CPU)
    CPU_Accelerator.is_bf16_supported = lambda self: True
    import transformers.training_args
    import transformers.utils.import_utils
    for module in (transformers.training_args, transformers.utils.import_utils):
        for name in ("is_torch_bf16_gpu_available", "is_torch_bf16_available_on_device"):
            if hasattr(module, name):
                setattr(module, name, lambda *args: True)
    from transformers import (AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments,
                              default_data_collator)
    sys.path.insert(0, PARITY)
    from make_goldens import blocks

    torch.set_num_threads(1)
    model_name, config, overrides = CASES[case]
    arguments = {**COMMON, **overrides}
    with tempfile.TemporaryDirectory() as out:
        path = os.path.join(out, "deepspeed.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        parsed = TrainingArguments(output_dir=out, disable_tqdm=True, report_to="none", deepspeed=path,
                                   **{key: value for key, value in arguments.items() if key != "block_size"})
        model = AutoModelForCausalLM.from_pretrained(os.path.join(PARITY, "models", model_name), dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(os.path.join(PARITY, "tokenizer"))
        trainer = Trainer(model=model, args=parsed, train_dataset=blocks(tokenizer, "train.jsonl"),
                          data_collator=default_data_collator)
        trainer.train()
        engine = trainer.model_wrapped
        assert type(engine).__name__ == "DeepSpeedEngine", type(engine)
        assert engine.zero_optimization_stage() == config["zero_optimization"]["stage"]
        assert engine.bfloat16_enabled() == bool(arguments.get("bf16"))
        assert engine.dp_world_size == NUM_RANKS
        if parsed.process_index == 0:
            history = [{key: float(entry[key]) for key in ("loss", "grad_norm", "learning_rate") if key in entry}
                       for entry in trainer.state.log_history if "loss" in entry]
            with open(result, "w", encoding="utf-8") as file:
                file.write(json.dumps({"model": model_name, "arguments": arguments, "deepspeed": config,
                                       "history": history}, indent=1) + "\n")


def main():
    if len(sys.argv) == 3:
        train(*sys.argv[1:])
        return
    import subprocess
    for case in CASES:
        result = os.path.join(HERE, case + ".json")
        subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(NUM_RANKS),
                        "--master_port", "29611", os.path.abspath(__file__), case, result],
                       check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_DEEPSPEED": "true"})
        print(case, "done")


if __name__ == "__main__":
    main()
