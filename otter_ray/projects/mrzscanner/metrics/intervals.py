"""95 % intervals: Wilson's of a share, and a bootstrap over images of a mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from otter_ray.train.model.replicates import mean_replicates


def share_interval(holds: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the interval of the share of images `[N]` for which something holds."""
    found = binomtest(int(holds.sum()), len(holds)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval(values: NDArray[Any]) -> tuple[float, float]:
    """Return the interval of the mean of values `[N]`; of truth values it is a share."""
    return share_interval(values) if values.dtype == bool else mean_replicates(values).interval
