"""Decide whether a failed trial is tried again, and whether its failure ends the study.

The trial's process only says what kind of failure it was. Tune starts a trial again whose process died, as
often as `RetryPolicy.max_retries` allows (`tune/driver/tuner.py`). A trial whose process died before it began
is handed out again without counting (`tune/search/schedulers.py`). Whether all trials of a study have failed
in the same way is a question about the study: see `tune/search/stopping.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from otter_ray.study.outcomes import normalize_error
from otter_ray.tune.messages import FailureKind, TrialFailure


class Decision(Enum):
    """What follows from a failure."""

    RETRY = "the trial continues from its last checkpoint"
    FAIL = "the trial has failed, and counts"
    ABORT_STUDY = "the search ends, and a later command continues the trial"


@dataclass(frozen=True)
class FailedAttempt:
    """A trial's failure, and how far the trial was.

    Attributes:
        failure: as it was reported.
        epoch: the last one done.
    """

    failure: TrialFailure
    epoch: int = 0

    def repeats(self, other: FailedAttempt) -> bool:
        """Return whether the same failure came at the same epoch before."""
        same_error = normalize_error(self.failure.error) == normalize_error(other.failure.error)
        return same_error and self.epoch == other.epoch


@dataclass(frozen=True)
class FailureHistory:
    """The earlier failures of a trial.

    Attributes:
        attempts: those that it reported.
        process_deaths: how often its process died.
    """

    attempts: tuple[FailedAttempt, ...] = ()
    process_deaths: int = 0


@dataclass(frozen=True)
class RetryPolicy:
    """The rules.

    Attributes:
        max_retries: of a trial, `study.retries` in the search space.
    """

    max_retries: int

    def decide(self, attempt: FailedAttempt, history: FailureHistory) -> Decision:
        """Decide what follows from a failure.

        Args:
            attempt: that has just failed.
            history: what came before.
        """
        match attempt.failure.kind:
            case FailureKind.STUDY:
                return Decision.ABORT_STUDY
            case FailureKind.DETERMINISTIC:
                return Decision.FAIL
            case FailureKind.PROCESS_DIED:
                # Tune counts these, and only these.
                return self._while_allowed(history.process_deaths + 1)
        if any(attempt.repeats(earlier) for earlier in history.attempts):
            return Decision.FAIL
        return self._while_allowed(history.process_deaths + len(history.attempts) + 1)

    def _while_allowed(self, failures: int) -> Decision:
        return Decision.RETRY if failures <= self.max_retries else Decision.FAIL
