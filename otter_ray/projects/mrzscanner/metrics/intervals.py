"""95 % intervals: Wilson's of a share, and a bootstrap over images of a mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from otter_ray.train.model.replicates import Replicates

_RESAMPLES = 2000


def mean_replicates(values: NDArray[np.float64]) -> Replicates:
    """Return the means of values `[N]` in resamples that depend on N alone."""
    chosen = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    return Replicates(values[chosen].mean(axis=1), len(values))


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the mean of values `[N]`."""
    low, high = np.quantile(mean_replicates(values).values, (0.025, 0.975))
    return float(low), float(high)


def share_interval(holds: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the interval of the share of images `[N]` for which something holds."""
    found = binomtest(int(holds.sum()), len(holds)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: NDArray[Any]) -> tuple[float, float]:
    """Return the interval of the mean of values `[N]`; of truth values it is a share."""
    return share_interval(values) if values.dtype == bool else mean_interval(values)
