"""PartialFC against the dense softmax: time and memory of one step, each in a process of its own.

    python benchmarks/partial_fc.py [--classes 1281167] [--dim 256] [--batch 64] [--steps 3]

Memory is the process's peak beyond the centres and their gradient. `dense` is the textbook way in plain
torch: unit embeddings times unit centres, the margin, `cross_entropy`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from results import keep
from torch import Tensor

from otter_ray.projects.docclassifier import CosFace

WAYS = {"dense": 1.0, "ours, rate 1": 1.0, "ours, rate 0.1": 0.1}
GB = 1e9


def dense(centres: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(embeddings), F.normalize(centres))
        rows = torch.arange(len(labels))
        logits = cosine.index_put((rows, labels), cosine[rows, labels] - 0.4)
        return F.cross_entropy(64 * logits, labels)

    return loss


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    module = CosFace(options.classes, options.dim, 64, 0.4, sample_rate=WAYS[way])
    loss = dense(module.weight) if way == "dense" else module
    embeddings = torch.randn(options.batch, options.dim, requires_grad=True)
    labels = torch.randint(options.classes, (options.batch,))
    before, seconds = peak(), []
    for _ in range(options.steps):
        module.weight.grad = embeddings.grad = None
        started = time.perf_counter()
        loss(embeddings, labels).backward()
        seconds.append(time.perf_counter() - started)
    gradient = module.weight.numel() * module.weight.element_size()
    return {"seconds": statistics.median(seconds), "gigabytes": (peak() - before - gradient) / GB}


def peak() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in {"classes": 1_281_167, "dim": 256, "batch": 64, "steps": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--way", choices=WAYS, help="one of them, in this process")
    parser.add_argument("--json", help="where the figures go, too")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return
    print(f"{options.classes:,} classes, {options.dim} dimensions, batch {options.batch}, float32, CPU")
    print(f"{'':16}{'s a step':>10}{'GB beyond':>12}{'time':>8}{'memory':>8}")
    base: dict[str, float] = {}
    rows = []
    for way in WAYS:
        done = subprocess.run(
            [sys.executable, *sys.argv, "--way", way], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        base = base or found
        rows.append({"way": way, **found})
        shares = [found[name] / base[name] for name in ("seconds", "gigabytes")]
        print(f"{way:16}{found['seconds']:10.3f}{found['gigabytes']:12.3f}{shares[0]:8.3f}{shares[1]:8.3f}")
    keep(options.json, "partial_fc", rows)


if __name__ == "__main__":
    main()
