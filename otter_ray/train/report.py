"""What a run tells its launcher after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One validated epoch.

    Attributes:
        epoch: number of epochs done, from 1; it goes on after a resume.
        metrics: everything the model logged, by name.
        seconds: since this process began the run.
        improved: whether `best.ckpt` is now this epoch's.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    improved: bool


Report = Callable[[EpochReport], None]


def kept_as(epoch: int) -> str:
    """The name under which an epoch's checkpoint is kept."""
    return f"epoch-{epoch:04d}.ckpt"
