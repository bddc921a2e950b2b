"""Writes deepspeed_keys.json: the paths of all keys that DeepSpeed's configuration classes and constants name.

usage: python make_deepspeed_keys.py SITE_PACKAGES/deepspeed > deepspeed_keys.json       (deepspeed 0.19.8)

Read from the source text: nothing of DeepSpeed is imported.
"""
import ast
import json
import pathlib
import sys

ROOT = pathlib.Path(sys.argv[1])

# Block -> (file, class whose annotated fields are its keys).
CLASSES = {
    "zero_optimization": ("runtime/zero/config.py", "DeepSpeedZeroConfig"),
    "zero_optimization.offload_param": ("runtime/zero/offload_config.py", "DeepSpeedZeroOffloadParamConfig"),
    "zero_optimization.offload_optimizer": ("runtime/zero/offload_config.py", "DeepSpeedZeroOffloadOptimizerConfig"),
    "fp16": ("runtime/precision_config.py", "DeepSpeedFP16Config"),
    "bf16": ("runtime/precision_config.py", "DeepSpeedBF16Config"),
    "comms_logger": ("comm/config.py", "CommsLoggerConfig"),
    "tensorboard": ("monitor/config.py", "TensorBoardConfig"),
    "wandb": ("monitor/config.py", "WandbConfig"),
    "csv_monitor": ("monitor/config.py", "CSVConfig"),
    "comet": ("monitor/config.py", "CometConfig"),
    "compile": ("compile/config.py", "CompileConfig"),
    "hybrid_engine": ("runtime/config.py", "HybridEngineConfig"),
    "timers.throughput": ("utils/config.py", "DeepSpeedThroughputTimerConfig"),
    "tensor_parallel": ("runtime/tensor_parallel/config.py", "TPTrainingConfig"),
}

# Block -> (file, prefix of the string constants that name its keys).
CONSTANTS = {
    "aio": ("runtime/swap_tensor/constants.py", "AIO_"),
    "activation_checkpointing": ("runtime/activation_checkpointing/config.py", "ACT_CHKPT_"),
    "flops_profiler": ("profiling/constants.py", "FLOPS_PROFILER_"),
    "torch_autocast": ("runtime/constants.py", "TORCH_AUTOCAST_"),
}

# Constants of runtime/constants.py whose value is a key at the top, or in a block.
TOP = """TRAIN_BATCH_SIZE TRAIN_MICRO_BATCH_SIZE_PER_GPU GRADIENT_ACCUMULATION_STEPS MANAGED_GRADIENT_ACCUMULATION OPTIMIZER
SCHEDULER ZERO_ALLOW_UNTESTED_OPTIMIZER ZERO_FORCE_DS_CPU_OPTIMIZER STEPS_PER_PRINT TORCH_AUTOCAST GRADIENT_CLIPPING
COMMUNICATION_DATA_TYPE SEQ_PARALLEL_COMMUNICATION_DATA_TYPE PRESCALE_GRADIENTS GRADIENT_PREDIVIDE_FACTOR
GRADIENT_ALLREDUCE_OP DISABLE_ALLGATHER DUMP_STATE DISABLE_PYTHON_GC VOCABULARY_SIZE WALL_CLOCK_BREAKDOWN MEMORY_BREAKDOWN
CHECKPOINT DATA_TYPES DATALOADER_DROP_LAST USE_DATA_BEFORE_EXPERT_PARALLEL LOG_LEVEL""".split()
IN_BLOCKS = {
    "checkpoint": "CHECKPOINT_TAG_VALIDATION LOAD_UNIVERSAL_CHECKPOINT USE_NODE_LOCAL_STORAGE_CHECKPOINT "
                  "CHECKPOINT_PARALLEL_WRITE",
    "checkpoint.parallel_write": "CHECKPOINT_PARALLEL_WRITE_PIPELINE_STAGE",
    "data_types": "GRAD_ACCUM_DTYPE PARAM_DTYPE BUFFER_DTYPE KEEP_IN_FP32_MODULES",
    "optimizer": "TYPE OPTIMIZER_PARAMS LEGACY_FUSION",
    "scheduler": "TYPE SCHEDULER_PARAMS",
}
# Dictionaries of runtime/config.py whose keys are keys that older versions had.
REMOVED = {"": "_REMOVED_TOP_LEVEL_CONFIG_KEYS", "zero_optimization": "_REMOVED_ZERO_CONFIG_KEYS"}


def tree(file):
    return ast.parse((ROOT / file).read_text())


def fields(file, name):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    yield field.target.id
                    for keyword in getattr(field.value, "keywords", []):
                        if keyword.arg == "alias":
                            yield keyword.value.value


def assignments(file):
    return {node.targets[0].id: node.value for node in tree(file).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}


def strings(file):
    return {name: value.value for name, value in assignments(file).items()
            if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def paths():
    for block, (file, name) in CLASSES.items():
        for key in fields(file, name):
            yield block + "." + key
    for block, (file, prefix) in CONSTANTS.items():
        for name, key in strings(file).items():
            if name.startswith(prefix) and not name.endswith(("_DEFAULT", "_FORMAT")):
                yield block + "." + key
    constants = strings("runtime/constants.py")
    for name in TOP:
        yield constants[name]
    for block, names in IN_BLOCKS.items():
        for name in names.split():
            yield block + "." + constants[name]
    for block, name in REMOVED.items():
        for key in assignments("runtime/config.py")[name].keys:
            yield (block + "." if block else "") + key.value


print(json.dumps(sorted(set(paths())), indent=0))
