"""The validation metrics of corners, image by image, and their means."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.errors import DataError
from otter_ray.projects.docaligner.corners import corners_of, has_document
from otter_ray.train.model.replicates import Replicates, mean_replicates
from otter_ray.vision.jaccard import jaccard

IOU, RECALL, PEAK, EMPTY, DISTANCE = (
    "valid_iou",
    "valid_recall@90",
    "valid_peak_iou",
    "valid_empty",
    "valid_corner_px",
)
SCORES = (IOU, RECALL)
METRICS = (IOU, RECALL, PEAK, EMPTY, DISTANCE)
GOOD = 0.9  # the Jaccard index above which corners count as found


@dataclass(frozen=True)
class Scores:
    """What was found in each photograph of a set.

    Attributes:
        iou: Jaccard index of each photograph with a document, as a client finds its corners.
        peak: The same for the expected place of each corner, which is always defined.
        distance: Mean distance of the corners found from the true ones, in per cent of the diagonal; NaN
            where a corner is missing.
        refused: Whether each photograph without a document has less than four corners.
    """

    iou: NDArray[np.float64]
    peak: NDArray[np.float64]
    distance: NDArray[np.float64]
    refused: NDArray[np.bool_]

    def means(self) -> dict[str, float]:
        """Return all metrics. Those of photographs that the set does not have are left out."""
        found = self.distance[np.isfinite(self.distance)]
        metrics = {
            IOU: float(self.iou.mean()),
            RECALL: float((self.iou > GOOD).mean()),
            PEAK: float(self.peak.mean()),
            DISTANCE: float(found.mean()) if len(found) else 100.0,
        }
        return metrics | ({EMPTY: float(self.refused.mean())} if len(self.refused) else {})

    def replicates(self, metric: str) -> Replicates | None:
        """Return a metric in resamples of the photographs that it is measured on."""
        values = {IOU: self.iou, RECALL: self.iou > GOOD, PEAK: self.peak, EMPTY: self.refused}.get(metric)
        if values is None or len(values) < 2:
            return None
        return mean_replicates(values)

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric, by bootstrap over the photographs."""
        found = self.replicates(metric)
        return None if found is None else found.interval


def scores(decoded: Tensor, points: Tensor, labels: Tensor) -> Scores:
    """Compare corners with the labels.

    Args:
        decoded: `[N, 4, 2]` as a client finds them, in fractions; NaN for a corner that it does not find.
        points: `[N, 4, 2]`, the expected places.
        labels: `[N, LABEL]`.

    Raises:
        DataError: None of the photographs shows a document.
    """
    shown = has_document(labels).cpu().numpy()
    if not shown.any():
        raise DataError(
            f"dataset.valid_options: none of the {len(labels)} photographs shows a document, so that there "
            f"is no {IOU}. Use more photographs, or fewer empty ones."
        )
    if shown.sum() < 50:
        warnings.warn(
            f"{IOU} is measured on only {shown.sum()} photographs with a document. Use at least 50.",
            stacklevel=2,
        )
    truth = corners_of(labels).double().cpu().numpy()
    found, expected = (each.detach().double().cpu().numpy() for each in (decoded, points))
    pixels = labels[:, None, 9:].double().cpu().numpy()
    away = np.hypot(*np.moveaxis((found - truth) * pixels, -1, 0)).mean(axis=1)
    return Scores(
        iou=_each(found, truth, shown),
        peak=_each(expected, truth, shown),
        distance=100 * (away / np.hypot(pixels[:, 0, 0], pixels[:, 0, 1]))[shown],
        refused=np.isnan(found).any(axis=(1, 2))[~shown],
    )


def _each(
    found: NDArray[np.float64], truth: NDArray[np.float64], shown: NDArray[np.bool_]
) -> NDArray[np.float64]:
    return np.array([jaccard(found[row], truth[row]) for row in np.flatnonzero(shown)], np.float64)
