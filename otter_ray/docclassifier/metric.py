"""`valid_fpr@4`: the true positive rate at a false positive rate of 1e-4, over all pairs, exact.

Two images of one label are a positive pair, two of different labels a negative one. A pair's score is
the similarity that DocClassifier's users compare against a threshold, `(dot + 1) / 2` of the unit
embeddings, computed in float32 and kept on a grid of 2^-24, float32's own resolution at 1. On that grid
a histogram is lossless, so pairs are counted, never kept: memory does not grow with their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GRID = 2**24
BLOCK_PAIRS = 2**23
FEW_NEGATIVES = 10_000
FEW_DOCUMENTS = 8
# The TPR at an FPR of 1e-4; the areas under the ROC curve up to an FPR of 1e-2, and under all of it.
METRICS = ("valid_fpr@4", "valid_pauc@2", "valid_auc")
TABLE_FPRS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class PairROC:
    """How many pairs have each score: the whole ROC curve, without the pairs.

    Attributes:
        scores: float64 `[S]`, distinct scores in [0, 1], descending.
        positives: int64 `[S]`, positive pairs with that score.
        negatives: int64 `[S]`, negative pairs with that score.
    """

    scores: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def num_positives(self) -> int:
        """Pairs of one label."""
        return int(self.positives.sum())

    @property
    def num_negatives(self) -> int:
        """Pairs of different labels."""
        return int(self.negatives.sum())

    def tpr_at(self, fpr: float) -> tuple[float, float]:
        """(TPR, threshold) of the largest set `{score >= threshold}` whose FPR is at most `fpr`.

        With no such set (the best score is already shared by too many negatives): `(0.0, inf)`.
        NaN where there are no positive or no negative pairs.
        """
        if not self.num_positives or not self.num_negatives:
            return float("nan"), float("nan")
        allowed = np.cumsum(self.negatives) / self.num_negatives <= fpr
        if not allowed[0]:
            return 0.0, float("inf")
        last = len(allowed) - 1 if allowed.all() else int(np.argmin(allowed)) - 1
        return float(self.positives[: last + 1].sum() / self.num_positives), float(self.scores[last])

    def tprs_at(self, fprs: NDArray[np.float64]) -> NDArray[np.float64]:
        """`tpr_at` of many rates at once: the curve may have millions of steps, a picture has 900 pixels.

        There are pairs of both kinds.
        """
        rates = np.cumsum(self.negatives) / self.num_negatives
        passed = np.concatenate([[0], np.cumsum(self.positives)]) / self.num_positives
        tprs: NDArray[np.float64] = passed[np.searchsorted(rates, fprs, side="right")]
        return tprs

    def auc(self) -> float:
        """Area under the ROC curve: the chance that a positive pair outscores a negative one."""
        if not self.num_positives or not self.num_negatives:
            return float("nan")
        lower = self.num_negatives - np.cumsum(self.negatives)
        wins = float(np.dot(self.positives.astype(np.float64), lower + self.negatives / 2))
        return wins / (self.num_positives * self.num_negatives)

    def partial_auc(self, limit: float = 1e-2) -> float:
        """Area under the ROC curve up to an FPR of `limit`, as a share of a perfect model's.

        McClish 1989, Analyzing a Portion of the ROC Curve, without its correction for chance. Every
        hard pair moves it, where a few set the TPR at one rate: early epochs are told apart.
        """
        if not self.num_positives or not self.num_negatives:
            return float("nan")
        fpr = np.cumsum(self.negatives) / self.num_negatives
        tpr = np.cumsum(self.positives) / self.num_positives
        within = fpr <= limit
        heights, edges = np.append(0.0, tpr[within]), np.concatenate([[0.0], fpr[within], [limit]])
        return float(np.dot(heights, np.diff(edges)) / limit)

    def table(self) -> list[tuple[float, float, float]]:
        """(FPR, TPR, threshold) at FPR 1e-5 ... 1."""
        return [(fpr, *self.tpr_at(fpr)) for fpr in TABLE_FPRS]


def pair_roc(embeddings: Tensor, labels: Tensor) -> PairROC:
    """Counts every pair of a validation set.

    Args:
        embeddings: float `[N, D]`; they are L2-normalised here.
        labels: int `[N]`.

    Raises:
        ValueError: an embedding is NaN or infinite.
    """
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("embeddings hold NaN or infinite values")
    features = unit(embeddings)
    labels = labels.to(features.device)
    count = len(features)
    rows = block_rows(count)
    blocks = (_block_keys(features, labels, start, rows) for start in range(0, max(count, 1), rows))
    if count <= rows:
        return _curve(*_count(next(blocks)))
    table = np.zeros(2 * (GRID + 1), dtype=np.int64)
    for keys in blocks:
        values, amounts = _count(keys)
        table[values] += amounts
    used = np.flatnonzero(table)
    return _curve(used, table[used])


def unit(embeddings: Tensor) -> Tensor:
    """Embeddings `[N, D]`, L2-normalised, in float32."""
    return torch.nn.functional.normalize(embeddings.detach().float())


def block_rows(count: int) -> int:
    """Rows of `count` embeddings whose pairs are looked at at once."""
    return max(1, BLOCK_PAIRS // max(count, 1))


def block_bins(features: Tensor, start: int, rows: int) -> Tensor:
    """int32 `[rows, N - start]`: bins of the scores of pairs (i, j), i in the block, j from its start on."""
    similarity = features[start : start + rows] @ features[start:].T
    return similarity.add_(1).mul_(GRID / 2).round_().clamp_(0, GRID).to(torch.int32)


def _block_keys(features: Tensor, labels: Tensor, start: int, rows: int) -> Tensor:
    """One int32 for each pair (i, j), i < j, i in the block: twice its score's bin, + 1 if positive."""
    keys = block_bins(features, start, rows).mul_(2)
    keys += labels[start : start + rows, None] == labels[None, start:]
    return keys[torch.ones_like(keys, dtype=torch.bool).triu_(1)]


def _count(keys: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, ascending, and how often each occurs."""
    # Numpy's sort of integers is faster than torch's on a CPU.
    ordered = np.sort(keys.numpy()) if keys.is_cpu else torch.sort(keys).values.cpu().numpy()
    starts = _run_starts(ordered)
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


def _run_starts(ordered: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.append(np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1]))


def _curve(keys: np.ndarray, amounts: np.ndarray) -> PairROC:
    if not len(keys):
        return PairROC(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    bins = keys >> 1
    starts = _run_starts(bins)
    positives = np.add.reduceat(amounts * (keys & 1), starts)
    negatives = np.add.reduceat(amounts, starts) - positives
    return PairROC(bins[starts][::-1] / GRID, positives[::-1], negatives[::-1])


def warn_if_few(negatives: int, documents: int | None = None) -> None:
    """Warns where the negative pairs are too few for a rate of 1e-4 to mean anything, or the documents, where
    they are counted, for its interval."""
    if negatives < FEW_NEGATIVES:
        warnings.warn(
            f"valid_fpr@4 rests on {negatives:,} negative pairs: at a rate of 1e-4 fewer than one of them "
            f"may pass, so the hardest single pair sets the threshold. Validate on more documents or "
            f"captures (>= {FEW_NEGATIVES:,} negative pairs).",
            stacklevel=3,
        )
    if documents is not None and documents < FEW_DOCUMENTS:
        warnings.warn(
            f"valid_fpr@4 rests on {documents} documents: its 95 % interval is not to be trusted. Hold out "
            f"{FEW_DOCUMENTS} documents or more.",
            stacklevel=3,
        )


def negative_pairs(sizes: Sequence[int]) -> int:
    """Pairs of different labels, among labels with `sizes` images each."""
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


def validation_metrics(embeddings: Tensor, labels: Tensor) -> tuple[dict[str, float], PairROC | None]:
    """What the model logs after validation: the `METRICS`, and the curve behind them.

    NaN (and no curve) where an embedding is not finite. Warns where the negative pairs are too few for
    a rate of 1e-4 to mean anything.
    """
    try:
        roc = pair_roc(embeddings, labels)
    except ValueError:
        return dict.fromkeys(METRICS, float("nan")), None
    warn_if_few(roc.num_negatives)
    return dict(zip(METRICS, (roc.tpr_at(1e-4)[0], roc.partial_auc(), roc.auc()), strict=True)), roc
