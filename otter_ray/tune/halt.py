"""When a search ends before all its trials have, and how.

Running trials finish their epoch, and stay RUNNING in the journal: a later driver goes on with them.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from otter_ray.report.rows import is_feasible, mode_of, read_trial
from otter_ray.tune.cluster import own_node_died
from otter_ray.tune.endings import ended_trials, failed_alike
from otter_ray.tune.keys import ERROR
from otter_ray.tune.limits import Limits


class Halt:
    """Watches over the limits and what goes wrong.

    Args:
        study: the truth about its trials.
        limits: of the search.
        tell: is given the reason when the search is to end.
        place: of its trials' folders, in the study's.
    """

    def __init__(
        self,
        study: optuna.Study,
        limits: Limits | None = None,
        tell: Callable[[str], None] = print,
        place: str = "",
    ) -> None:
        self.place = place
        self.study, self.limits, self.tell = study, limits or Limits(), tell
        self.reason = ""
        self.is_fault = False
        self.is_full = False
        self.is_interrupt = False
        self.epochs = sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))
        self.until = time.monotonic() + self.limits.seconds if self.limits.seconds is not None else None
        self._may_fail_alike = all(trial.state == TrialState.FAIL for trial in ended_trials(study))
        self._look()
        self._look_back()

    @property
    def ends_command(self) -> bool:
        """Whether nothing may follow the search: something is at fault, Ctrl-C came, or the time is up."""
        return self.is_fault or self.is_interrupt or self.is_time_up

    @property
    def is_time_up(self) -> bool:
        """Whether the time budget is used up."""
        return self.until is not None and time.monotonic() >= self.until

    def epoch_done(self) -> None:
        """One more epoch of any trial."""
        self.epochs += 1
        self._look()

    def trial_ended(self, number: int) -> None:
        """One more trial."""
        self._may_fail_alike &= read_trial(self.study, number).state == TrialState.FAIL
        if alike := failed_alike(self.study) if self._may_fail_alike else []:
            first = self.study.get_trials(deepcopy=False)[alike[0]]
            self.fail(
                f"all {len(alike)} trials so far failed alike: {first.user_attrs[ERROR]} "
                f"(see {self.place}trials/{alike[0]:04d}/log.txt in the study's folder)"
            )
        self._look_back()

    def look_at_the_clock(self) -> None:
        """Whether the time is up."""
        if self.is_time_up:
            self.ask("the time budget is used up")

    def ask(self, reason: str) -> None:
        """The search is to end; the first reason counts."""
        if not self.reason:
            self.reason = reason
            self.tell(f"{reason}: running trials finish their epoch, then the search ends")

    def fail(self, message: str, is_full: bool = False) -> None:
        """The search must end: it would fail on. `is_full`: because the driver's disk is."""
        if not self.is_fault:
            self.reason, self.is_fault, self.is_full = message, True, is_full

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.is_interrupt = True
        self.ask("interrupted (again: at once)")

    def _look(self) -> None:
        if self.limits.epochs is not None and self.epochs >= self.limits.epochs:
            self.ask(f"{self.epochs} epochs are done")

    def _look_back(self) -> None:
        patience = self.limits.patience
        if patience is None:
            return
        ended = ended_trials(self.study)
        ended.sort(key=attrgetter("datetime_complete"))
        if _since_best(ended, mode_of(self.study) == "max") >= patience:
            self.ask(f"{patience} trials in a row brought no better value")


def used_up(study: optuna.Study, limits: Limits) -> Halt | None:
    """What would end a search before it has begun a trial, if its limits would."""
    halt = Halt(study, limits, lambda text: None)
    return halt if halt.reason else None


class HaltTune(Callback, Stopper):  # type: ignore[misc]
    """Tells Tune to end once the running trials have been stopped; those that still wait never start."""

    def __init__(self, halt: Halt) -> None:
        self.halt = halt
        self._running: set[str] = set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial is to be stopped: never here, its scheduler says it."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune in each of its rounds."""
        self.halt.look_at_the_clock()
        # Tune would wait for a slot for ever.
        if not (self.halt.reason or self._running) and own_node_died():
            self.halt.fail("Ray's raylet on this machine has died, and with it every running trial")
        return bool(self.halt.reason) and not self._running

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial has its slot."""
        self._running.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial has given it back."""
        self._running.discard(trial.trial_id)

    # One that is to be tried again waits for a slot.
    on_trial_error = on_trial_recover = on_trial_complete

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}


@contextmanager
def two_interrupts(halt: Halt) -> Iterator[None]:
    """The first Ctrl-C asks for an end, the second is KeyboardInterrupt, and so is SIGTERM at once: who sends
    it, `ray job stop` or a container's end, waits for some seconds only. In the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        halt.interrupt()

    before = [
        (signum, signal.signal(signum, handler))
        for signum, handler in ((signal.SIGINT, first), (signal.SIGTERM, signal.default_int_handler))
    ]
    try:
        yield
    finally:
        for signum, handler in before:
            signal.signal(signum, handler)


def _since_best(ended: Sequence[FrozenTrial], maximize: bool) -> int:
    """How many trials have ended after the one with the best value."""
    best, count = None, 0
    for trial in ended:
        values = trial.intermediate_values.values()
        value = (max if maximize else min)(values) if values else None
        is_better = value is not None and (best is None or (value > best if maximize else value < best))
        counts = trial.state != TrialState.FAIL and is_feasible(trial)
        best, count = (value, 0) if is_better and counts else (best, count + 1)
    return count
