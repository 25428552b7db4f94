"""Decide when a search ends before all its trials have.

Running trials finish their epoch and stay RUNNING in the journal. A later driver continues them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from operator import attrgetter

import optuna
from optuna.trial import FrozenTrial, TrialState

from otter_ray.console import notice
from otter_ray.direction import Direction
from otter_ray.study.layout import trial_log
from otter_ray.study.optuna_compat import read_trial
from otter_ray.study.outcomes import common_failure, ended_trials
from otter_ray.study.schema import ERROR
from otter_ray.study.trials import direction_of, is_feasible
from otter_ray.tune.request import StopCriteria

logger = logging.getLogger(__name__)


def _log(text: str) -> None:
    notice(logger, text, style="yellow")


class StopController:
    """Watch the stop criteria, and what goes wrong.

    Args:
        study: The truth about its trials.
        criteria: Of the search.
        notify: Called with the reason when the search is to end; logs it by default.
        prefix: Of the trials' folders, in the study's folder.

    Attributes:
        reason: Why the search is to end; empty while it is not.
        is_fault: Whether something is wrong that would make further trials fail.
        is_full: Whether that is the driver's full disk.
        is_interrupt: Whether Ctrl-C came.
        epochs: Done by all trials of the study.
        until: When the time budget is used up, on the monotonic clock; None: never.
    """

    def __init__(
        self,
        study: optuna.Study,
        criteria: StopCriteria | None = None,
        notify: Callable[[str], None] = _log,
        prefix: str = "",
    ) -> None:
        self.study, self.criteria, self.notify = study, criteria or StopCriteria(), notify
        self.prefix = prefix
        self.reason = ""
        self.is_fault = False
        self.is_full = False
        self.is_interrupt = False
        self.epochs = sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))
        seconds = self.criteria.seconds
        self.until = None if seconds is None else time.monotonic() + seconds
        self._may_fail_alike = all(trial.state == TrialState.FAIL for trial in ended_trials(study))
        self._check_epochs()
        self._check_patience()

    @property
    def ends_command(self) -> bool:
        """Whether nothing may follow the search: a fault, Ctrl-C, or no time left."""
        return self.is_fault or self.is_interrupt or self.is_time_up

    @property
    def is_time_up(self) -> bool:
        """Whether the time budget is used up."""
        return self.until is not None and time.monotonic() >= self.until

    def epoch_done(self) -> None:
        """Count one more epoch of any trial."""
        self.epochs += 1
        self._check_epochs()

    def trial_ended(self, number: int) -> None:
        """Look at the trials that have ended, this one among them."""
        self._may_fail_alike &= read_trial(self.study, number).state == TrialState.FAIL
        if alike := common_failure(self.study) if self._may_fail_alike else []:
            first = self.study.get_trials(deepcopy=False)[alike[0]]
            self.abort(
                f"all {len(alike)} trials so far failed in the same way: {first.user_attrs[ERROR]} "
                f"(see {self.prefix}{trial_log(alike[0])} in the study's folder)"
            )
        self._check_patience()

    def check_time_budget(self) -> None:
        """Request a stop if the time is up."""
        if self.is_time_up:
            self.request_stop("the time budget is used up")

    def request_stop(self, reason: str) -> None:
        """End the search once running trials have finished their epoch. The first reason counts."""
        if not self.reason:
            self.reason = reason
            self.notify(f"{reason}: running trials finish their epoch, then the search ends")

    def abort(self, message: str, is_full: bool = False) -> None:
        """End the search because further trials would fail.

        Args:
            message: What is wrong. It outweighs the reason of an earlier request.
            is_full: Whether the driver's disk is full.
        """
        if not self.is_fault:
            self.reason, self.is_fault, self.is_full = message, True, is_full

    def interrupt(self) -> None:
        """Request a stop for Ctrl-C."""
        self.is_interrupt = True
        self.request_stop("interrupted (press Ctrl-C again to stop at once)")

    def _check_epochs(self) -> None:
        if self.criteria.epochs is not None and self.epochs >= self.criteria.epochs:
            self.request_stop(f"{self.epochs} epochs are done")

    def _check_patience(self) -> None:
        patience = self.criteria.patience
        if patience is None:
            return
        ended = ended_trials(self.study)
        ended.sort(key=attrgetter("datetime_complete"))
        if _since_best(ended, direction_of(self.study)) >= patience:
            self.request_stop(f"{patience} trials in a row brought no better value")


def already_met(study: optuna.Study, criteria: StopCriteria) -> StopController | None:
    """Return what would end a search before it has begun a trial; None if nothing would."""
    controller = StopController(study, criteria, lambda text: None)
    return controller if controller.reason else None


def _since_best(ended: Sequence[FrozenTrial], direction: Direction) -> int:
    """Count the trials that have ended after the one with the best value."""
    best, count = None, 0
    for trial in ended:
        values = trial.intermediate_values.values()
        value = direction.best(values, float) if values else None
        is_better = value is not None and (best is None or direction.is_better(value, best))
        counts = trial.state != TrialState.FAIL and is_feasible(trial)
        best, count = (value, 0) if is_better and counts else (best, count + 1)
    return count
