"""How often the 95 % interval of `valid_fpr@4` holds the truth.

    python benchmarks/intervals.py [--samples 200] [--documents 6 12 24 50]

Embeddings are drawn: a document's centre is normal in 32 (or 16) dimensions, its photographs scatter about
it, each document's by a spread of its own. The truth is the rate over 3 times 1,500 documents. For each
number of documents, validation sets of 18 photographs each are drawn again and again, and their intervals
asked whether they hold it: as `interval` gives them, and as percentiles of the same resamples.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from otter_ray.projects.docclassifier.metrics.bootstrap import FPR, _interval, rates
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc

PHOTOGRAPHS = 18
WORLDS = {"far apart": (32, 0.5, 0.9), "closer": (16, 0.3, 0.7)}


def embeddings(
    rng: np.random.Generator, world: str, documents: int, photographs: int = PHOTOGRAPHS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 [documents * photographs, D], and their labels."""
    dimensions, low, high = WORLDS[world]
    centres = rng.normal(size=(documents, 1, dimensions))
    spread = rng.uniform(low, high, size=(documents, 1, 1))
    points = centres + spread * rng.normal(size=(documents, photographs, dimensions))
    labels = torch.arange(documents).repeat_interleave(photographs)
    return torch.tensor(points.reshape(-1, dimensions), dtype=torch.float32), labels


def truth(world: str) -> float:
    rng = np.random.default_rng(99)
    return float(np.mean([pair_roc(*embeddings(rng, world, 1500, 8)).tpr_at(FPR)[0] for _ in range(3)]))


def coverage(world: str, documents: int, samples: int, value: float) -> str:
    """A line of the table: how often each kind of interval holds the value, and how wide ours is."""
    rng = np.random.default_rng(documents)
    points, ours, plain = [], [], []
    for _ in range(samples):
        found = embeddings(rng, world, documents)
        roc = pair_roc(*found)
        points.append(roc.tpr_at(FPR)[0])
        replicates = rates(*found, roc, FPR)
        ours.append(_interval(points[-1], replicates, documents))
        plain.append(np.nanquantile(replicates, [0.025, 0.975]))
    holds = [np.mean([low <= value <= high for low, high in kind]) for kind in (ours, plain)]
    width = np.mean([high - low for low, high in ours])
    return (
        f"{world:10} truth {value:.3f}  documents {documents:3}  mean rate {np.mean(points):.3f} "
        f"(sd {np.std(points):.3f})  covers {holds[0]:.3f} (percentiles {holds[1]:.3f})  width {width:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the 95 % interval of valid_fpr@4.")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--documents", type=int, nargs="*", default=[6, 12, 24, 50])
    arguments = parser.parse_args()
    for world in WORLDS:
        value = truth(world)
        for documents in arguments.documents:
            print(coverage(world, documents, arguments.samples, value), flush=True)


if __name__ == "__main__":
    main()
