"""Some of a validation set's pairs, with their images: all pairs would not fit in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.projects.docclassifier.metrics.pair_roc import GRID, PairROC, block_bins, block_rows

# More pairs than these are sampled. The standard error of a rate over the sample is at most 0.0014.
SAMPLED_PAIRS = 2**17


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the most similar first.

    Attributes:
        first: Indices of the pairs' first images, int64 `[P]`.
        second: Indices of their second images, int64 `[P]`.
        bins: Scores on the metric's grid, int32 `[P]`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    bins: NDArray[np.int32]


def hardest(features: Tensor, classes: NDArray[np.int64], roc: PairROC, count: int) -> Pairs:
    """Return the `count` negative pairs with the highest scores, or all; `roc` is that of all pairs."""
    place = np.searchsorted(np.cumsum(roc.negatives), min(count, roc.num_negatives))
    floor = int(roc.scores[place] * GRID)

    def pick(bins: Tensor, positive: Tensor, upper: Tensor) -> Tensor:
        places = ((bins >= floor) & upper & ~positive).flatten().nonzero()[:, 0]
        # There can be more only if many are equal.
        return places if len(places) <= count else places[bins.flatten()[places].topk(count).indices]

    pairs = _collect(features, classes, pick)
    return Pairs(pairs.first[:count], pairs.second[:count], pairs.bins[:count])


def sample(
    features: Tensor, classes: NDArray[np.int64], roc: PairROC, is_positive: bool, seed: int = 0
) -> Pairs:
    """Return all positive (or negative) pairs, or about SAMPLED_PAIRS of them, drawn by `seed`."""
    there = roc.num_positives if is_positive else roc.num_negatives
    generator = torch.Generator().manual_seed(seed)

    def pick(bins: Tensor, positive: Tensor, upper: Tensor) -> Tensor:
        places = ((positive == is_positive) & upper).flatten().nonzero()[:, 0]
        if there <= SAMPLED_PAIRS:
            return places
        return places[torch.rand(len(places), generator=generator).to(places.device) < SAMPLED_PAIRS / there]

    return _collect(features, classes, pick)


def _collect(
    features: Tensor, classes: NDArray[np.int64], pick: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Pairs:
    """Collect the pairs that `pick(bins, is positive, i < j)` chooses in each block, by flat index."""
    labels = torch.from_numpy(classes).to(features.device)
    rows = block_rows(len(features))
    found = []
    for start in range(0, len(features), rows):
        bins = block_bins(features, start, rows)
        positive = labels[start : start + rows, None] == labels[None, start:]
        places = pick(bins, positive, torch.ones_like(positive).triu_(1))
        row, column = places // bins.shape[1], places % bins.shape[1]
        found.append(torch.stack([row + start, column + start, bins.flatten()[places].long()]))
    first, second, bins = torch.cat(found, dim=1).cpu().numpy()
    order = np.argsort(-bins, kind="stable")
    return Pairs(first[order], second[order], bins[order])
