"""A metric of resampled validation sets: what two models are compared by on the same items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000  # of a mean


@dataclass(frozen=True)
class Replicates:
    """A metric's values in resamples of a set, which depend on the set's labels alone.

    So the same index is the same resample for every model that was measured on the set.

    Attributes:
        values: One for each resample, float64 `[R]`; NaN in a resample without a value.
        units: How many things were drawn independently of each other, such as documents.
    """

    values: NDArray[np.float64]
    units: int

    @property
    def interval(self) -> tuple[float, float]:
        """The percentiles between which 95 % of the values lie, all of which must be numbers."""
        low, high = np.quantile(self.values, [0.025, 0.975])
        return float(low), float(high)


def mean_replicates(values: NDArray[Any]) -> Replicates:
    """Return the means of values `[N]`, numbers or truth values, in resamples that depend on N alone."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    return Replicates(values[drawn].mean(axis=1), len(values))


def paired_interval(
    difference: float, first: Replicates | None, second: Replicates | None
) -> tuple[float, float] | None:
    """Return the 95 % interval of `first - second`, from their values in the same resamples.

    It is the difference plus and minus t times the standard deviation of the resamples' differences, with one
    degree of freedom fewer than there are units.

    Args:
        difference: That was measured.
        first: Of a model.
        second: Of another one.

    Returns:
        The interval; None if the models have no replicates of the same resamples, if most have no value, or
        if all differences are equal, which says nothing of their spread.
    """
    from scipy.special import stdtrit

    if first is None or second is None or first.values.shape != second.values.shape:
        return None
    differences = first.values - second.values
    known = differences[np.isfinite(differences)]
    if first.units < 2 or len(known) < max(2, len(differences) / 2) or np.ptp(known) == 0:
        return None
    reach = float(stdtrit(first.units - 1, (1 + LEVEL) / 2) * known.std(ddof=1))
    return difference - reach, difference + reach
