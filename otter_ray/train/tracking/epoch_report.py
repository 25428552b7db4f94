"""What a run reports to its launcher after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One validated epoch.

    Attributes:
        epoch: Number of epochs done, from 1; a resumed run continues to count.
        metrics: Everything that the model logged, by name.
        seconds: Seconds since this process began the run.
        improved: Whether `best.ckpt` is now this epoch's.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    improved: bool


Report = Callable[[EpochReport], None]
