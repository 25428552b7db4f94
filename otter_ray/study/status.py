"""How far a trial is."""

from __future__ import annotations

from enum import StrEnum


class TrialStatus(StrEnum):
    """The status of a trial; its values stand in tables, in JSON lines and in `trials.parquet`."""

    COMPLETE = "complete"
    PRUNED = "pruned"  # the scheduler stopped it
    FAILED = "failed"
    UNFINISHED = "unfinished"  # running, or interrupted
    WAITING = "waiting"
    INFEASIBLE = "infeasible"  # its model violates a constraint, and nothing was trained

    @property
    def has_ended(self) -> bool:
        """Whether the trial was trained, and nothing of it is to come."""
        return self in (TrialStatus.COMPLETE, TrialStatus.PRUNED, TrialStatus.FAILED)
