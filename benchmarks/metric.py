"""`valid_fpr@4` against the way of the seed: a list of all pairs by itertools, then torchmetrics.

    python benchmarks/metric.py [--json FILE]

Each figure is measured in a process of its own, whose peak memory beyond that after the imports is told, too.
Ours goes on where the other cannot: 20,000 and 100,000 embeddings are 200 million and 5 billion pairs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import combinations
from statistics import median

import numpy as np
import torch
from results import keep
from torchmetrics.functional.classification import binary_auroc, binary_roc

from otter_ray.projects.docclassifier.metrics.pair_roc import validation_metrics

SIZES = {"itertools": (512, 2048), "ours": (512, 2048, 20_000, 100_000)}
DIM, IMAGES, FPR = 256, 24, 1e-4


def embeddings(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """float `[N, D]` around a centre for each label, and labels int `[N]`: `IMAGES` images a document."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) // IMAGES
    centres = torch.randn(count // IMAGES + 1, DIM, generator=generator)
    return centres[labels] + 1.5 * torch.randn(count, DIM, generator=generator), labels


def by_itertools(features: torch.Tensor, labels: torch.Tensor) -> float:
    """The TPR at `FPR`, in the steps of DocClassifier's validation: the pairs as a tensor made of a list of
    tuples, their scores and labels collected as a list of numbers' tensors, both curves from those."""
    first, second = torch.tensor(list(combinations(range(len(features)), 2))).T
    embeddings = torch.nn.functional.normalize(features)
    scores = ((embeddings[first] * embeddings[second]).sum(dim=-1) + 1) / 2
    same = (labels[first] == labels[second]).int()
    scores, same = torch.stack(list(scores)), torch.stack(list(same))
    binary_auroc(scores, same)
    fpr, tpr, _ = binary_roc(scores, same)
    return float(tpr[np.searchsorted(fpr.numpy(), FPR, side="right") - 1])


def ours(features: torch.Tensor, labels: torch.Tensor) -> float:
    """What a model logs after each epoch: this metric, and the areas under the curve."""
    return validation_metrics(features, labels)[0]["valid_fpr@4"]


def one(way: str, count: int) -> dict[str, float]:
    features, labels = embeddings(count)
    torch.set_num_threads(1)
    ours(features[:64], labels[:64])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    value = (ours if way == "ours" else by_itertools)(features, labels)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "peak_mb": peak / 1024, "value": value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", help="where the figures go, too")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "COUNT"), help="a single figure, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], int(arguments.one[1]))))
        return
    rows = []
    for count in sorted({size for sizes in SIZES.values() for size in sizes}):
        found: dict[str, list[dict[str, float]]] = {way: [] for way, sizes in SIZES.items() if count in sizes}
        for _ in range(arguments.repetitions if count < 100_000 else 1):
            for way, runs in found.items():
                command = [sys.executable, __file__, "--one", way, str(count)]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        for way, runs in found.items():
            seconds = [run["seconds"] for run in runs]
            row = {"embeddings": count, "way": way, "seconds": median(seconds)}
            row["spread"] = [min(seconds), max(seconds)]
            row["peak_mb"] = max(run["peak_mb"] for run in runs)
            rows.append({**row, "value": runs[0]["value"]})
            print(json.dumps(rows[-1]), flush=True)
    keep(arguments.json, "metric", rows)


if __name__ == "__main__":
    main()
