"""Writes the JSON files beside it: what datasets, accelerate and transformers' Trainer do with small data sets.

  python make_goldens.py             # all but trainer_order.json
  python make_goldens.py trainer 1   # trainer_order.json: the Trainer itself, as 1 process
  torchrun --nproc_per_node 2 make_goldens.py trainer 2   # ... and as 2

Made with torch 2.11.0, accelerate 1.15.0, datasets 5.2.0, transformers 5.17.0.
"""
import json
import os
import random
import sys
import tempfile
from itertools import chain

import torch

HERE = os.path.dirname(os.path.abspath(__file__))


def write(name, value):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(case) for case in value) + "\n]\n")


def group_texts_cases():
    """Documents of counted-up ids, so that a block is known by its first id."""
    from datasets import Dataset

    cases = []
    rng = random.Random(7)
    data_sets = [
        [rng.choice([0, 0, 1, 3, 8, 17, 40]) for _ in range(37)],
        [rng.randrange(1, 6) for _ in range(10)],
        [3, 4],
    ]
    for lengths in data_sets:
        ids, documents = 0, []
        for length in lengths:
            documents.append(list(range(ids, ids + length)))
            ids += length
        for num_proc in (1, 2, 3):
            for batch_size in (4, 7, 40000):
                for block_size in (1, 5, 16):

                    def group(examples):
                        joined = {k: list(chain(*examples[k])) for k in examples}
                        total = len(joined["input_ids"])
                        if total >= block_size:
                            total = total // block_size * block_size
                        return {k: [v[i:i + block_size] for i in range(0, total, block_size)]
                                for k, v in joined.items()}

                    mapped = Dataset.from_dict({"input_ids": documents}).map(
                        group, batched=True, batch_size=batch_size,
                        num_proc=num_proc if num_proc > 1 else None)
                    blocks = list(mapped["input_ids"])
                    whole = [b for b in blocks if len(b) == block_size]
                    assert all(b == list(range(b[0], b[0] + block_size)) for b in whole)
                    cases.append({"lengths": lengths, "num_proc": num_proc, "batch_size": batch_size,
                                  "block_size": block_size, "starts": [b[0] for b in whole],
                                  "short_blocks": len(blocks) - len(whole)})
    return cases


def batches_cases():
    from accelerate import PartialState
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

    PartialState(cpu=True)
    cases = []
    for n, batch_size in [(1, 1), (1, 4), (2, 4), (3, 2), (5, 2), (7, 3), (8, 2), (9, 4), (12, 3), (13, 2), (20, 5),
                          (37, 4)]:
        for shards in (1, 2, 3, 4):
            for drop_last in (False, True):
                for even in (True, False):
                    for strategy, seed in (("sequential", 0), ("random", 42)):
                        case = {"n": n, "batch_size": batch_size, "num_shards": shards, "drop_last": drop_last,
                                "even_batches": even, "strategy": strategy, "seed": seed, "epochs": []}
                        loaders = []
                        for shard in range(shards):
                            items = list(range(n))
                            sampler = (RandomSampler if strategy == "random" else SequentialSampler)(items)
                            loaders.append(prepare_data_loader(
                                DataLoader(items, batch_size, sampler=sampler, drop_last=drop_last,
                                           collate_fn=list),
                                num_processes=shards, process_index=shard, even_batches=even,
                                use_seedable_sampler=True, data_seed=seed))
                        for epoch in (0, 3) if strategy == "random" else (0,):
                            for loader in loaders:
                                loader.set_epoch(epoch)
                            case["epochs"].append({"epoch": epoch,
                                                   "batches": [[list(b) for b in loader] for loader in loaders]})
                        cases.append(case)
    return cases


def permutations_cases():
    """Ends and a checksum: the sum of (position + 1) * index, modulo 2^32."""
    from accelerate.data_loader import SeedableRandomSampler

    cases = []
    for n in (1, 2, 3, 17, 1000, 50021):
        for seed in (0, 42, 2**31 - 1, 3000000007, 2**40 + 5):
            sampler = SeedableRandomSampler(range(n), data_seed=seed)
            for epoch in (0, 1, 2, 100):
                sampler.set_epoch(epoch)
                order = list(sampler)
                cases.append({"n": n, "seed": seed, "epoch": epoch, "head": order[:8], "tail": order[-8:],
                              "checksum": sum((i + 1) * x for i, x in enumerate(order)) % 2**32})
    return cases


def splits_cases():
    from datasets import Dataset, load_dataset

    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 7, 10, 25, 50, 69, 150, 269, 1000):
            path = os.path.join(folder, f"{n}.jsonl")
            with open(path, "w") as f:
                f.writelines(json.dumps({"text": str(i)}) + "\n" for i in range(n))
            for percentage in (1, 2, 3, 5, 10, 25, 33, 50, 90, 99):
                try:
                    split = len(load_dataset("json", data_files=path, cache_dir=folder,
                                             split=f"train[:{percentage}%]"))
                except ValueError:  # An empty split.
                    split = 0
                cases.append({"n": n, "percentage": percentage, "first": split})
    return cases


def trainer_case(world, seed, data_seed, n):
    """The samples that a Trainer sees, by rank, in the order it sees them."""
    from transformers import Trainer, TrainingArguments

    seen = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x):
            seen.append(x.tolist())
            return {"loss": (self.w * x.sum()), "logits": x.float()}

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return n

        def __getitem__(self, i):
            return {"x": torch.tensor(i)}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, num_train_epochs=2, per_device_train_batch_size=4, seed=seed,
                                      data_seed=data_seed, use_cpu=True, report_to=[], save_strategy="no",
                                      disable_tqdm=True, remove_unused_columns=False)
        Trainer(model=Model(), args=arguments, train_dataset=Items()).train()
    ranks = [None] * world
    if world > 1:
        torch.distributed.all_gather_object(ranks, seen)
    else:
        ranks = [seen]
    return {"n": n, "batch_size": 4, "num_shards": world, "seed": seed, "data_seed": data_seed, "num_epochs": 2,
            "batches": ranks}


def main():
    if sys.argv[1:2] != ["trainer"]:
        write("group_texts.json", group_texts_cases())
        write("batches.json", batches_cases())
        write("permutations.json", permutations_cases())
        write("splits.json", splits_cases())
        return
    world = int(sys.argv[2])
    new = [trainer_case(world, seed, data_seed, n)
           for seed, data_seed, n in [(42, None, 10), (42, 7, 10), (1234, None, 23)]]
    if int(os.environ.get("RANK", 0)) == 0:
        path = os.path.join(HERE, "trainer_order.json")
        old = json.load(open(path)) if os.path.exists(path) else []
        write("trainer_order.json", [c for c in old if c["num_shards"] != world] + new)


if __name__ == "__main__":
    main()
