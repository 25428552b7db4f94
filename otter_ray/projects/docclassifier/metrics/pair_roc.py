"""`valid_fpr@4`: the true positive rate at a false positive rate of 1e-4, over all pairs, exact.

Two images of one label are a positive pair, two of different labels a negative one. A pair's score is
the similarity that DocClassifier's users compare with a threshold, `(dot + 1) / 2` of the unit
embeddings, computed in float32 and kept on a grid of 2^-24, float32's own resolution at 1. On that grid
a histogram is lossless, so pairs are counted, never kept: memory does not grow with their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.errors import SoleWarning
from otter_ray.formatting import sentence

GRID = 2**24
BLOCK_PAIRS = 2**23  # whose scores are in memory at once
BLOCK_ROWS = 256  # more would also score unused pairs below the diagonal
MIN_NEGATIVES = 10_000
MIN_DOCUMENTS = 8
# The TPR at an FPR of 1e-4; the areas under the ROC curve up to an FPR of 1e-2, and under all of it.
METRICS = ("valid_fpr@4", "valid_pauc@2", "valid_auc")
TABLE_FPRS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class PairROC:
    """How many pairs have each score: the whole ROC curve, without the pairs.

    Attributes:
        scores: Distinct scores in [0, 1], descending, float64 `[S]`.
        positives: Positive pairs with that score, int64 `[S]`.
        negatives: Negative pairs with that score, int64 `[S]`.
    """

    scores: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @cached_property
    def num_positives(self) -> int:
        """The number of pairs of one label."""
        return int(self.positives.sum())

    @cached_property
    def num_negatives(self) -> int:
        """The number of pairs of different labels."""
        return int(self.negatives.sum())

    @cached_property
    def _fprs(self) -> NDArray[np.float64]:
        """FPR of each threshold, if there are negative pairs."""
        return np.cumsum(self.negatives) / self.num_negatives

    def tpr_at(self, fpr: float) -> tuple[float, float]:
        """Return (TPR, threshold) of the largest set `{score >= threshold}` whose FPR is at most `fpr`.

        If there is no such set, because too many negatives share the best score, it is `(0.0, inf)`. Without
        positive or without negative pairs it is NaN.
        """
        if not self.num_positives or not self.num_negatives:
            return float("nan"), float("nan")
        allowed = int(np.searchsorted(self._fprs, fpr, side="right"))
        if not allowed:
            return 0.0, float("inf")
        return float(self.positives[:allowed].sum() / self.num_positives), float(self.scores[allowed - 1])

    def tprs_at(self, fprs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `tpr_at` for many rates at once: the curve may have millions of steps, a picture 900 pixels.

        There must be pairs of both kinds.
        """
        passed = np.concatenate([[0], np.cumsum(self.positives)]) / self.num_positives
        tprs: NDArray[np.float64] = passed[np.searchsorted(self._fprs, fprs, side="right")]
        return tprs

    def auc(self) -> float:
        """Return the area under the ROC curve: the chance that a positive pair outscores a negative one."""
        if not self.num_positives or not self.num_negatives:
            return float("nan")
        # Most scores have no positive pair, and add nothing.
        there = np.flatnonzero(self.positives)
        negatives = self.negatives[there]
        lower = self.num_negatives - np.cumsum(self.negatives)[there]
        wins = float(np.dot(self.positives[there].astype(np.float64), lower + negatives / 2))
        return wins / (self.num_positives * self.num_negatives)

    def partial_auc(self, limit: float = 1e-2) -> float:
        """Return the area under the ROC curve up to an FPR of `limit`, as a share of a perfect model's.

        McClish 1989, Analyzing a Portion of the ROC Curve, without its correction for chance. Every hard pair
        changes it, while a few decide the TPR at one rate: it distinguishes early epochs.
        """
        if not self.num_positives or not self.num_negatives:
            return float("nan")
        within = np.searchsorted(self._fprs, limit, side="right")
        tprs = np.cumsum(self.positives[:within]) / self.num_positives
        heights, edges = np.append(0.0, tprs), np.concatenate([[0.0], self._fprs[:within], [limit]])
        return float(np.dot(heights, np.diff(edges)) / limit)

    def metrics(self) -> dict[str, float]:
        """Return the value of each of `METRICS`."""
        return dict(zip(METRICS, (self.tpr_at(1e-4)[0], self.partial_auc(), self.auc()), strict=True))

    def with_positives_moved(self, by: float) -> PairROC:
        """Return the curve if all positive pairs scored higher by this: every metric rises with it."""
        there = [np.flatnonzero(pairs) for pairs in (self.positives, self.negatives)]
        moved = np.concatenate([self.scores[there[0]] + by, self.scores[there[1]]])
        scores, places = np.unique(moved, return_inverse=True)
        counts = [np.zeros(len(scores), np.int64) for _ in there]
        counts[0][places[: len(there[0])]] = self.positives[there[0]]
        counts[1][places[len(there[0]) :]] = self.negatives[there[1]]
        return PairROC(scores[::-1], counts[0][::-1], counts[1][::-1])

    def table(self) -> list[tuple[float, float, float]]:
        """Return (FPR, TPR, threshold) at FPR 1e-5 ... 1."""
        return [(fpr, *self.tpr_at(fpr)) for fpr in TABLE_FPRS]


def pair_roc(embeddings: Tensor, labels: Tensor) -> PairROC:
    """Count every pair of a validation set.

    Args:
        embeddings: Float `[N, D]`; they are L2-normalised here.
        labels: Int `[N]`.

    Raises:
        ValueError: An embedding is NaN or infinite.
    """
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("embeddings hold NaN or infinite values")
    features = unit(embeddings)
    labels = labels.to(features.device)
    count = len(features)
    rows = block_rows(count)
    blocks = (_block_keys(features, labels, start, rows) for start in range(0, max(count, 1), rows))
    if count * (count - 1) // 2 <= BLOCK_PAIRS:
        return _sorted_curve(torch.cat([*blocks]))
    table = torch.zeros(2 * (GRID + 1), dtype=torch.int64, device=features.device)
    one = table.new_ones(1)
    for keys in blocks:
        table.index_add_(0, keys, one.expand(len(keys)))
    return _table_curve(table.view(-1, 2).cpu().numpy())


def unit(embeddings: Tensor) -> Tensor:
    """Normalise embeddings `[N, D]` to unit length, in float32."""
    return torch.nn.functional.normalize(embeddings.detach().float())


def block_rows(count: int) -> int:
    """Return how many of `count` embeddings have their pairs scored at once."""
    return min(BLOCK_ROWS, max(1, BLOCK_PAIRS // max(count, 1)))


def block_bins(features: Tensor, start: int, rows: int) -> Tensor:
    """Return int32 `[rows, N - start]`: score bins of pairs (i, j), i in the block, j from its start on."""
    similarity = features[start : start + rows] @ features[start:].T
    return similarity.add_(1).mul_(GRID / 2).round_().clamp_(0, GRID).to(torch.int32)


def _block_keys(features: Tensor, labels: Tensor, start: int, rows: int) -> Tensor:
    """Return one int32 a pair (i, j), i < j, i in the block: twice its score's bin, + 1 if positive."""
    keys = block_bins(features, start, rows).mul_(2)
    keys += labels[start : start + rows, None] == labels[None, start:]
    square, rest = keys[:, : len(keys)], keys[:, len(keys) :]
    above = square[torch.ones_like(square, dtype=torch.bool).triu_(1)]
    return torch.cat([above, rest.flatten()])


def _sorted_curve(keys: Tensor) -> PairROC:
    """Make the curve of some keys `[P]`."""
    # A radix sort: on a quiet Zen 4 core 0.4 of the time of numpy's, whose AVX-512 that core is slow at.
    ordered = torch.sort(keys).values.cpu().numpy()
    if not len(ordered):
        return PairROC(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    bins = ordered >> 1
    starts = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))
    of_positives = np.searchsorted(starts, np.flatnonzero(ordered & 1), side="right") - 1
    positives = np.bincount(of_positives, minlength=len(starts))
    negatives = np.diff(starts, append=len(ordered)) - positives
    return PairROC(bins[starts][::-1] / GRID, positives[::-1], negatives[::-1])


def _table_curve(table: NDArray[np.int64]) -> PairROC:
    """Make the curve of how often each bin occurs in negative and in positive pairs, `[GRID + 1, 2]`."""
    used = np.flatnonzero(table[:, 0] | table[:, 1])[::-1]
    negatives, positives = table[used].T
    return PairROC(used / GRID, positives, negatives)


class SmallSetWarning(SoleWarning):
    """A validation or test set is too small for its figures."""


def warn_if_few(negatives: int, documents: int | None = None) -> None:
    """Warn if there are too few negative pairs for a rate of 1e-4, or documents for its interval."""
    found = []
    if negatives < MIN_NEGATIVES:
        found.append(
            f"with only {negatives:,} negative pairs, the hardest single pair decides valid_fpr@4. Validate "
            f"on more documents or captures, for at least {MIN_NEGATIVES:,} negative pairs."
        )
    if documents is not None and documents < MIN_DOCUMENTS:
        found.append(
            f"with only {documents} documents, the 95 % interval of valid_fpr@4 is not reliable. Hold out at "
            f"least {MIN_DOCUMENTS} documents."
        )
    if found:
        text = " ".join([found[0], *map(sentence, found[1:])])
        warnings.warn(text, SmallSetWarning, stacklevel=3)


def negative_pairs(sizes: Sequence[int]) -> int:
    """Count the pairs of different labels, among labels with `sizes` images each."""
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


def validation_metrics(embeddings: Tensor, labels: Tensor) -> tuple[dict[str, float], PairROC | None]:
    """Return what the model logs after validation: the `METRICS`, and the curve that they come from.

    They are NaN, without a curve, if an embedding is not finite. Warns if there are too few negative pairs.
    """
    try:
        roc = pair_roc(embeddings, labels)
    except ValueError:
        return dict.fromkeys(METRICS, float("nan")), None
    warn_if_few(roc.num_negatives)
    return roc.metrics(), roc
