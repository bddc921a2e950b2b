"""Writes deepspeed_schedule.json: the learning rates of DeepSpeed's own schedules, update by update.

usage: python make_deepspeed_schedule_goldens.py > deepspeed_schedule.json     (deepspeed 0.19.8, torch 2.11.0)
"""
import json

import torch
from deepspeed.runtime import lr_schedules

LEARNING_RATE = 3e-4

# (schedule, warmup_num_steps, total_num_steps or None, other parameters)
CASES = [
    ("WarmupLR", 1, None, {}),
    ("WarmupLR", 2, None, {}),
    ("WarmupLR", 6, None, {}),
    ("WarmupLR", 6, None, {"warmup_type": "log", "warmup_min_lr": 1e-5, "warmup_max_lr": 2e-4}),
    ("WarmupLR", 6, None, {"warmup_type": "linear"}),
    ("WarmupLR", 6, None, {"warmup_type": "linear", "warmup_min_lr": 1e-4, "warmup_max_lr": 3e-4}),
    ("WarmupDecayLR", 4, 15, {"warmup_max_lr": 3e-4}),
    ("WarmupDecayLR", 4, 15, {"warmup_max_lr": 3e-4, "warmup_type": "linear", "warmup_min_lr": 5e-5}),
    ("WarmupDecayLR", 1, 8, {"warmup_max_lr": 1e-3}),
    ("WarmupDecayLR", 12, 8, {"warmup_max_lr": 3e-4}),
    ("WarmupCosineLR", 4, 15, {}),
    ("WarmupCosineLR", 4, 15, {"warmup_type": "linear", "warmup_min_ratio": 0.1, "cos_min_ratio": 0.05}),
    ("WarmupCosineLR", 1, 8, {"cos_min_ratio": 0}),
    ("WarmupCosineLR", 12, 8, {}),
]


def rates(name, warmup, total, parameters):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    steps = {} if total is None else {"total_num_steps": total}
    scheduler = getattr(lr_schedules, name)(optimizer, warmup_num_steps=warmup, **steps, **parameters)
    used = []
    for _ in range(18):
        used.append(float(optimizer.param_groups[0]["lr"]))  # the rate that this update uses
        scheduler.step()
    return used


print(json.dumps([
    {"type": name, "warmup": warmup, "total": total or 0, "kwargs": parameters, "learning_rate": LEARNING_RATE,
     "rates": rates(name, warmup, total, parameters)} for name, warmup, total, parameters in CASES
], indent=0))
