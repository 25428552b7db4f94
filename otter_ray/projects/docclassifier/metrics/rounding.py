"""What rounding can make of a rate over pairs: bounds of each metric if scores move no further than seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from otter_ray.projects.docclassifier.metrics.pair_roc import GRID, block_bins, block_rows, pair_roc, unit
from otter_ray.train.model.score_range import ScoreRange


def rounding_range(
    embeddings: Tensor, others: Sequence[Tensor], labels: Tensor, metric: str
) -> ScoreRange | None:
    """Bound a metric over the pairs of a validation set, if scores move as far as they did between roundings.

    The metric is highest if every positive pair's score rises by the largest difference and every negative
    pair's falls by it. This is the same as moving the positive pairs by twice the difference.

    Args:
        embeddings: The exact ones, `[N, D]`; unit length is not needed.
        others: The same, rounded in different ways.
        labels: Int `[N]`.
        metric: One of `METRICS`.

    Returns:
        The range; None if an embedding is NaN or infinite.
    """
    try:
        roc = pair_roc(embeddings, labels)
    except ValueError:
        return None
    size = max(largest_difference(embeddings, other) for other in others)
    low, high = (roc.with_positives_moved(move).metrics()[metric] for move in (-2 * size, 2 * size))
    spread = float(roc.scores[0] - roc.scores[-1])
    reason = (
        f"the validation set has {roc.num_positives} positive pairs, or the outputs lie too close together "
        f"(spread of the scores {spread:.1e}, rounded by up to {size:.1e})"
    )
    return ScoreRange(low, high, reason)


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of one pair's score between two sets of embeddings `[N, D]`."""
    features, rounded = unit(first), unit(second)
    rows = block_rows(len(features))
    blocks = (
        block_bins(features, start, rows) - block_bins(rounded, start, rows)
        for start in range(0, len(features), rows)
    )
    return float(torch.stack([block.abs().max() for block in blocks]).max()) / GRID
