"""How far a rate over pairs may be off: intervals by a bootstrap over documents and images.

Pairs are not a sample: 336 photographs of 14 documents make 52,000 negative pairs, but one document that
resembles another makes hundreds of them at once. What was sampled are documents, and photographs of them, so
these are drawn again, both with replacement (the two-stage bootstrap of clusters: Field, Welsh 2007,
Bootstrapping clustered data, J. R. Statist. Soc. B 69). A resample is a set of weights:

    v_c     how often document c is drawn: multinomial over the documents
    m_i     how often image i is drawn among its document's: multinomial over these
    v_c m_i m_j        weight of a positive pair i != j of document c
    v_c m_i v_d m_j    weight of a negative pair, of documents c != d

The weights of crossed factors are multiplied (Owen 2007, The pigeonhole bootstrap, Ann. Appl. Stat. 1; Owen,
Eckles 2012, Bootstrapping data arrays of arbitrary order, Ann. Appl. Stat. 6). Two copies of an image are
not a pair: it would be a positive one with a score of 1. Two copies of a document are not a negative pair,
and make no positive ones either: v_c, not v_c^2, because each drawn document has its own pairs and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.projects.docclassifier.metrics.pair_roc import PairROC, pair_roc, unit
from otter_ray.projects.docclassifier.metrics.pairs import Pairs, hardest, sample
from otter_ray.train.model.replicates import Replicates

FPR = 1e-4
RESAMPLES = 1000
LEVEL = 0.95
# Pairs times resamples that are weighed at once: 16 MB a matrix.
WEIGHTS_AT_ONCE = 2**21
# Resamples that share a generator.
DRAWN_AT_ONCE = 16
# The hardest negative pairs are weighed first: this many times those that may pass, and at least MIN_HARDEST.
SPARE_FACTOR, MIN_HARDEST = 8, 2**12

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Resample:
    """Weights of some resamples.

    Attributes:
        documents: How often each document is drawn, `[K, R]`.
        images: How often each image is drawn among its document's, `[N, R]`.
        classes: The document of each image, from 0, int64 `[N]`.
    """

    documents: Weights
    images: Weights
    classes: NDArray[np.int64]

    def positives(self, pairs: Pairs) -> Weights:
        """Return the weights `[P, R]` of pairs of one document."""
        documents = self.documents[self.classes[pairs.first]]
        return np.asarray(documents * self.images[pairs.first] * self.images[pairs.second])

    def negatives(self, pairs: Pairs) -> Weights:
        """Return the weights `[P, R]` of pairs of two documents."""
        weights = self.documents[self.classes] * self.images
        return np.asarray(weights[pairs.first] * weights[pairs.second])

    def all_negatives(self) -> Weights:
        """Return the total weight `[R]` of all pairs of two documents."""
        drawn = self.documents * np.bincount(self.classes)[:, None]
        return np.asarray((drawn.sum(axis=0) ** 2 - (drawn**2).sum(axis=0)) / 2)


def resamples(
    classes: NDArray[np.int64], count: int, at_once: int, seed: int, draws_images: bool = True
) -> Iterator[Resample]:
    """Draw `count` resamples, at most `at_once` of them together.

    They depend on the classes and the seed alone: models that are compared see the same resamples.
    """
    sizes = np.bincount(classes)
    order = np.argsort(classes, kind="stable")
    for start in range(0, count, DRAWN_AT_ONCE):
        rng = np.random.default_rng((seed, start))
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), DRAWN_AT_ONCE).T
        images = np.ones((len(classes), DRAWN_AT_ONCE))
        if draws_images:
            images[order] = np.concatenate(
                [rng.multinomial(n, np.full(n, 1 / n), DRAWN_AT_ONCE).T for n in sizes]
            )
        documents, left = drawn.astype(np.float64), min(DRAWN_AT_ONCE, count - start)
        for first in range(0, left, at_once):
            part = slice(first, min(first + at_once, left))
            yield Resample(documents[:, part], images[:, part], classes)


def interval(embeddings: Tensor, labels: Tensor, metric: str) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of `valid_fpr@4` or `valid_auc` of a validation set.

    It is None for another metric, for values that are not finite, and if most resamples have no rate.

    Args:
        embeddings: Float `[N, D]`.
        labels: Int `[N]`.
        metric: The metric's name.
    """
    value, found = _resampled(embeddings, labels, metric)
    return None if found is None else _interval(value, found.values, found.units)


def replicates(embeddings: Tensor, labels: Tensor, metric: str) -> Replicates | None:
    """Return the values of `valid_fpr@4` or `valid_auc` in resamples of a validation set; else None.

    Only documents are drawn, each with all of its images. The differences of two models then spread less than
    with images drawn as well, and their intervals still cover the truth (`benchmarks/intervals.py`).

    Args:
        embeddings: Float `[N, D]`.
        labels: Int `[N]`; equal ones are resampled in the same way.
        metric: The metric's name.
    """
    return _resampled(embeddings, labels, metric, draws_images=False)[1]


def _resampled(
    embeddings: Tensor, labels: Tensor, metric: str, draws_images: bool = True
) -> tuple[float, Replicates | None]:
    """Return a metric, and its values in resamples if there are any."""
    if metric not in ("valid_fpr@4", "valid_auc") or not bool(torch.isfinite(embeddings).all()):
        return float("nan"), None
    roc, documents = pair_roc(embeddings, labels), len(set(labels.tolist()))
    if not roc.num_positives or not roc.num_negatives:
        return float("nan"), None
    if metric == "valid_auc":
        return roc.auc(), Replicates(areas(embeddings, labels, roc, draws_images=draws_images), documents)
    values = rates(embeddings, labels, roc, FPR, draws_images=draws_images)
    return roc.tpr_at(FPR)[0], Replicates(values, documents)


def _interval(rate: float, replicates: Weights, documents: int) -> tuple[float, float] | None:
    """Return `sin^2(x -+ t s)`, where x = arcsin(sqrt(rate)) and s is the spread of the replicates' x.

    t has one degree of freedom fewer than there are documents. On this scale a rate's spread hardly depends
    on the rate, and few documents estimate their spread badly. If no two resamples differ, nothing is known
    of the spread: the interval is then the exact one of as many successes (or failures) as there are
    documents (Clopper, Pearson 1934, Biometrika 26).
    """
    from scipy.special import stdtrit

    known = replicates[np.isfinite(replicates)]
    if len(known) < len(replicates) / 2:
        return None
    tail = (1 - LEVEL) / 2
    if np.ptp(known) == 0:
        bound = tail ** (1 / documents)
        return (0.0, 1 - bound) if rate == 0 else (rate * bound, 1.0)
    spread = float(np.arcsin(np.sqrt(known)).std(ddof=1))
    reach = float(stdtrit(documents - 1, 1 - tail)) * spread
    angle = np.arcsin(np.sqrt(rate))
    low, high = np.sin(np.clip([angle - reach, angle + reach], 0, np.pi / 2)) ** 2
    return float(low), float(high)


def rates(
    embeddings: Tensor,
    labels: Tensor,
    roc: PairROC,
    fpr: float,
    count: int = RESAMPLES,
    seed: int = 0,
    draws_images: bool = True,
) -> Weights:
    """Return the TPR at `fpr` in `count` resamples, `[count]`; NaN in one without pairs of both kinds.

    The rule is that of `PairROC.tpr_at`: the largest set `{score >= t}` whose FPR is at most `fpr`. Only the
    hardest negative pairs decide which of them is the first too many.

    Args:
        embeddings: Float `[N, D]`.
        labels: Int `[N]`.
        roc: Of all their pairs, which must be of both kinds.
        fpr: The false positive rate.
        count: Number of resamples.
        seed: Seed of the resamples.
        draws_images: Whether images are drawn as well, or documents alone.
    """
    features, classes = _prepared(embeddings, labels)
    positives = sample(features, classes, roc, is_positive=True)
    wanted = max(MIN_HARDEST, SPARE_FACTOR * int(np.ceil(fpr * roc.num_negatives)))
    while True:
        hard = hardest(features, classes, roc, wanted)
        whole = len(hard.bins) == roc.num_negatives
        drawn = resamples(classes, count, _at_once(classes, positives, hard), seed, draws_images)
        parts = [_rates(resample, positives, hard, fpr, whole) for resample in drawn]
        if all(part is not None for part in parts):
            return np.concatenate([part for part in parts if part is not None])
        wanted *= 4


def _rates(resample: Resample, positives: Pairs, hard: Pairs, fpr: float, whole: bool) -> Weights | None:
    """Return the TPR `[R]`; None if more than the hardest negative pairs may pass."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.cumsum(resample.negatives(hard), axis=0) / resample.all_negatives()
        too_many = shares > fpr
        first = too_many.argmax(axis=0)
        is_found = too_many.any(axis=0)
        if not whole and not np.all(is_found | (resample.all_negatives() == 0)):
            return None
        limit = np.where(is_found, hard.bins[first], -1)
        passing = np.searchsorted(-positives.bins, -limit, side="left")
        weights = np.cumsum(resample.positives(positives), axis=0)
        passed = np.where(passing > 0, np.take_along_axis(weights, passing[None] - 1, axis=0)[0], 0)
        return np.where(resample.all_negatives() > 0, passed / weights[-1], np.nan)


def areas(
    embeddings: Tensor,
    labels: Tensor,
    roc: PairROC,
    count: int = RESAMPLES,
    seed: int = 0,
    draws_images: bool = True,
) -> Weights:
    """Return the area under the ROC curve of a sample of the pairs in `count` resamples, `[count]`."""
    features, classes = _prepared(embeddings, labels)
    positives, negatives = (sample(features, classes, roc, kind) for kind in (True, False))
    drawn = resamples(classes, count, _at_once(classes, positives, negatives), seed, draws_images)
    return np.concatenate([_areas(resample, positives, negatives) for resample in drawn])


def _areas(resample: Resample, positives: Pairs, negatives: Pairs) -> Weights:
    """Return the chance `[R]` that a positive pair outscores a negative one; equal scores count half."""
    weights = resample.positives(positives)
    below = np.cumsum(resample.negatives(negatives)[::-1], axis=0)
    below = np.concatenate([np.zeros_like(below[:1]), below])
    ends = [np.searchsorted(negatives.bins[::-1], positives.bins, side) for side in ("left", "right")]
    wins = sum((weights * below[end]).sum(axis=0) for end in ends) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / (weights.sum(axis=0) * below[-1]))


def _prepared(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, NDArray[np.int64]]:
    """Return unit embeddings, and labels from 0 without gaps."""
    return unit(embeddings), np.unique(labels.cpu().numpy(), return_inverse=True)[1].astype(np.int64)


def _at_once(classes: NDArray[np.int64], *pairs: Pairs) -> int:
    return max(1, WEIGHTS_AT_ONCE // max(len(classes), *(len(each.bins) for each in pairs), 1))
