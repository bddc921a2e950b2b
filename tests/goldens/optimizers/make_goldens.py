"""Makes the optimizers' goldens: what the field's own implementations do with a few tensors in ten steps.

Needs torch 2.11.0, transformers 5.24.0, bitsandbytes 0.50.2 and safetensors, on the CPU:
  python make_goldens.py            # goldens.safetensors beside itself

The tensors are w0 [12, 20], w1 [20, 12], w2 [45] and big [70, 60] (so large that bitsandbytes keeps 8 bits of its
states). START.w0 and so on are the start; grad.STEP.w0 the gradients, each of another size so that moments matter;
CASE.w0 the weights after the last step, CASE.w0.STATE a state. The learning rate of step s (from 0) is 0.02 / (s + 1).
quantile.signed and quantile.unsigned are bitsandbytes' dynamic maps.
"""
import os

import bitsandbytes as bnb
import bitsandbytes.backends.cpu.ops as cpu_ops
import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.torch import save_file
from transformers.optimization import Adafactor

SHAPES = {"w0": (12, 20), "w1": (20, 12), "w2": (45,), "big": (70, 60)}
STEPS = 10
torch.manual_seed(5)
torch.set_num_threads(1)
out = {}
for name, shape in SHAPES.items():
    out[f"start.{name}"] = torch.randn(shape)
    for step in range(STEPS):
        out[f"grad.{step}.{name}"] = torch.randn(shape) * 10.0 ** (-step % 3) * 0.1


def run(case, make, names):
    weights = {name: torch.nn.Parameter(out[f"start.{name}"].clone()) for name in names}
    optimizer = make(list(weights.values()))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 / (step + 1)
        for name, weight in weights.items():
            weight.grad = out[f"grad.{step}.{name}"].clone()
        optimizer.step()
    for name, weight in weights.items():
        out[f"{case}.{name}"] = weight.detach()
        for key, value in optimizer.state[weight].items():
            if torch.is_tensor(value) and value.numel() > 1 and "qmap" not in key:
                out[f"{case}.{name}.{key}"] = value.detach().clone()


def lion(params):
    class Lion(torch.optim.Optimizer):
        """Algorithm 2 of the paper, in fp64."""

        def __init__(self, params):
            super().__init__(params, dict(lr=0.0))

        @torch.no_grad()
        def step(self):
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                m = state.get("exp_avg", torch.zeros_like(p)).double()
                g, w, lr = p.grad.double(), p.double(), self.param_groups[0]["lr"]
                c = 0.9 * m + 0.1 * g
                p.copy_(w - lr * (c.sign() + 0.1 * w))
                state["exp_avg"] = (0.99 * m + 0.01 * g).float()

    return Lion(params)


def nearest(values, code, absmax_out, codes_out, blocksize):
    flat = torch.nn.functional.pad(values.reshape(-1), (0, -values.numel() % blocksize)).view(-1, blocksize)
    absmax_out.copy_(flat.abs().amax(1))
    scale = torch.where(absmax_out == 0, torch.ones_like(absmax_out), absmax_out)
    distance = ((flat / scale[:, None]).double()[..., None] - code.double()).abs()
    codes_out.copy_(distance.argmin(-1).view(-1)[: values.numel()].view(codes_out.shape))


SMALL = ["w0", "w1", "w2"]
run("adamw", lambda p: torch.optim.AdamW(p, weight_decay=0.1), SMALL)
run("adam", lambda p: torch.optim.Adam(p, weight_decay=0.1), SMALL)
run("sgd", lambda p: torch.optim.SGD(p, weight_decay=0.1), SMALL)
run("momentum", lambda p: torch.optim.SGD(p, momentum=0.9, dampening=0.1, weight_decay=0.1), SMALL)
run("nesterov", lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, weight_decay=0.1), SMALL)
run("lion", lion, SMALL)
run("muon", lambda p: torch.optim.Muon(p, weight_decay=0.1), ["w0", "w1"])
run("muon_rms", lambda p: torch.optim.Muon(p, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", nesterov=False),
    ["w0", "w1"])
run("adafactor", lambda p: Adafactor(p, lr=1.0, scale_parameter=False, relative_step=False, weight_decay=0.1), SMALL)
run("adamw_8bit", lambda p: bnb.optim.AdamW(p, weight_decay=0.1, optim_bits=8), ["big"])
run("lion_8bit", lambda p: bnb.optim.Lion(p, weight_decay=0.1, betas=(0.9, 0.99), optim_bits=8), ["big"])
# bitsandbytes looks codes up, and takes the second nearest where two are nearly as near (0.2 % of values); this is the
# same with the nearest, so that every digit can be compared.
cpu_ops._quant_blockwise_fp32_direct = nearest
run("adamw_8bit_nearest", lambda p: bnb.optim.AdamW(p, weight_decay=0.1, optim_bits=8), ["big"])
run("lion_8bit_nearest", lambda p: bnb.optim.Lion(p, weight_decay=0.1, betas=(0.9, 0.99), optim_bits=8), ["big"])
out["quantile.signed"] = create_dynamic_map(signed=True)
out["quantile.unsigned"] = create_dynamic_map(signed=False)
here = os.path.dirname(os.path.abspath(__file__))
save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(here, "goldens.safetensors"))
for k, v in out.items():
    if "." in k and not k.startswith(("grad", "start")):
        print(k, tuple(v.shape), v.dtype)
