"""Writes lr_schedule.json: the learning-rate factors of transformers' own schedules.

usage: python make_lr_schedule_goldens.py > lr_schedule.json       (transformers 5.17.0, torch 2.11.0)
"""
import json

import torch
from transformers.optimization import get_scheduler

LEARNING_RATE = 3e-4

CASES = [
    ("linear", 0, 10, {}),
    ("linear", 3, 10, {}),
    ("linear", 10, 10, {}),
    ("linear", 15, 10, {}),
    ("cosine", 0, 12, {}),
    ("cosine", 4, 25, {}),
    ("cosine", 4, 25, {"num_cycles": 1.5}),
    ("cosine_with_restarts", 2, 25, {"num_cycles": 3}),
    ("cosine_with_restarts", 2, 25, {}),
    ("polynomial", 3, 20, {}),
    ("polynomial", 3, 20, {"lr_end": 1e-5, "power": 2.0}),
    ("constant", 5, 10, {}),
    ("constant_with_warmup", 5, 10, {}),
    ("constant_with_warmup", 0, 10, {}),
    ("inverse_sqrt", 4, 30, {}),
    ("inverse_sqrt", 0, 30, {}),
    ("inverse_sqrt", 4, 30, {"timescale": 100}),
    ("cosine_with_min_lr", 4, 25, {"min_lr": 3e-5}),
    ("cosine_with_min_lr", 4, 25, {"min_lr_rate": 0.2, "num_cycles": 1.0}),
    ("cosine_warmup_with_min_lr", 4, 25, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 4, 25, {"min_lr": 3e-5, "warmup_lr_rate": 0.05}),
    ("cosine_warmup_with_min_lr", 1, 25, {"min_lr": 3e-5, "warmup_lr_rate": 0.05}),
    ("warmup_stable_decay", 4, 30, {"num_decay_steps": 10}),
    ("warmup_stable_decay", 4, 30, {"num_decay_steps": 10, "min_lr_ratio": 0.1, "decay_type": "linear",
                                    "warmup_type": "cosine"}),
    ("warmup_stable_decay", 4, 30, {"num_decay_steps": 10, "min_lr_ratio": 0.1, "decay_type": "1-sqrt",
                                    "warmup_type": "1-sqrt"}),
    ("warmup_stable_decay", 0, 30, {"num_decay_steps": 10, "num_stable_steps": 5, "num_cycles": 1.0}),
    ("warmup_stable_decay", 10, 12, {"num_decay_steps": 10}),
]


def factors(name, warmup, total, kwargs):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=LEARNING_RATE)
    scheduler = get_scheduler(name, optimizer, warmup, total, kwargs)
    return [float(scheduler.lr_lambdas[0](step)) for step in range(total + 3)]


print(json.dumps([
    {"type": name, "warmup": warmup, "total": total, "kwargs": kwargs, "learning_rate": LEARNING_RATE,
     "factors": factors(name, warmup, total, kwargs)} for name, warmup, total, kwargs in CASES
], indent=0))
