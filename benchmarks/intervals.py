"""How often the 95 % intervals of `valid_fpr@4`, and of a gain in it, hold the truth.

    python benchmarks/intervals.py [--samples 200] [--documents 6 12 24 50] [--gains 0 0.05 0.2]

Embeddings are drawn: a document's centre is normal in 32 (or 16) dimensions, its photographs scatter about
it, each document's by a spread of its own. The truth is the rate over 3 times 1,500 documents. For each
number of documents, validation sets of 18 photographs each are drawn again and again, and their intervals
asked whether they hold it: as `interval` gives them, and as percentiles of the same resamples.

With `--gains` two models are compared on the same photographs. Seven tenths of the variance of what they
make of documents and of photographs is common to both, and photographs scatter more for the worse model, by
as much as the true gain asks for. An interval without 0 is a significant gain: with a true gain of 0, a
false alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from otter_ray.projects.docclassifier.metrics.bootstrap import FPR, _interval, rates, replicates
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.train.model.replicates import paired_interval

PHOTOGRAPHS = 18
WORLDS = {"far apart": (32, 0.5, 0.9), "closer": (16, 0.3, 0.7)}
METRIC = "valid_fpr@4"
SHARED = 0.7


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


def two_models(
    rng: np.random.Generator, world: str, documents: int, factor: float, photographs: int = PHOTOGRAPHS
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Embeddings of a model that scatters `factor` times as much and of the better one, and their labels."""
    dimensions, low, high = WORLDS[world]

    def alike(*shape: int) -> list[np.ndarray]:
        common = rng.normal(size=shape)
        return [SHARED**0.5 * common + (1 - SHARED) ** 0.5 * rng.normal(size=shape) for _ in range(2)]

    centres, scatters = alike(documents, 1, dimensions), alike(documents, photographs, dimensions)
    spread = rng.uniform(low, high, size=(documents, 1, 1))
    each = zip(centres, scatters, (factor, 1.0), strict=True)
    points = [centre + worse * spread * scatter for centre, scatter, worse in each]
    labels = torch.arange(documents).repeat_interleave(photographs)
    return [torch.tensor(some.reshape(-1, dimensions), dtype=torch.float32) for some in points], labels


def true_gain(world: str, factor: float) -> float:
    rng = np.random.default_rng(99)
    found = []
    for _ in range(3):
        both, labels = two_models(rng, world, 1500, factor, 8)
        base, winner = (pair_roc(embeddings, labels).tpr_at(FPR)[0] for embeddings in both)
        found.append(winner - base)
    return float(np.mean(found))


def factor_for(world: str, gain: float) -> tuple[float, float]:
    """How much more the worse model scatters for a gain, and the gain that this gives."""
    if not gain:
        return 1.0, 0.0
    low, high = 1.0, 2.0
    for _ in range(8):
        factor = (low + high) / 2
        low, high = (factor, high) if (found := true_gain(world, factor)) < gain else (low, factor)
    return factor, found


def gain_coverage(world: str, documents: int, samples: int, factor: float, gain: float) -> str:
    """A line of the second table: how often a gain's interval holds it, and how often it leaves 0 out."""
    rng = np.random.default_rng(documents)
    measured, found = [], []
    for _ in range(samples):
        both, labels = two_models(rng, world, documents, factor)
        base, winner = (pair_roc(each, labels).tpr_at(FPR)[0] for each in both)
        measured.append(winner - base)
        of_base, of_winner = (replicates(each, labels, METRIC) for each in both)
        # None says nothing, and is no alarm.
        found.append(paired_interval(measured[-1], of_winner, of_base) or (-1.0, 1.0))
    covers = np.mean([low <= gain <= high for low, high in found])
    significant = np.mean([low > 0 or high < 0 for low, high in found])
    width = np.mean([high - low for low, high in found])
    return (
        f"{world:10} true gain {gain:.3f}  documents {documents:3}  mean gain {np.mean(measured):.3f} "
        f"(sd {np.std(measured):.3f})  covers {covers:.3f}  significant {significant:.3f}  width {width:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the 95 % interval of valid_fpr@4.")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--documents", type=int, nargs="*", default=[6, 12, 24, 50])
    parser.add_argument("--gains", type=float, nargs="*", default=[])
    arguments = parser.parse_args()
    for world in WORLDS:
        for gain in arguments.gains:
            factor, true = factor_for(world, gain)
            for documents in arguments.documents:
                print(gain_coverage(world, documents, arguments.samples, factor, true), flush=True)
        if arguments.gains:
            continue
        value = truth(world)
        for documents in arguments.documents:
            print(coverage(world, documents, arguments.samples, value), flush=True)


if __name__ == "__main__":
    main()
