"""What is known of a running study while it runs: counted as events come, whatever shows it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otter_ray.config import StudyOptions
from otter_ray.config.scheduler import ASHA
from otter_ray.report.rows import TrialRow, base_of
from otter_ray.tune.keys import BASE, EPOCH, GPU_PEAK, GPU_TOTAL
from otter_ray.tune.plan import Plan

RECENT = 64  # epochs whose pace says how fast the study is


@dataclass(frozen=True)
class Reached:
    """A value of the metric, the trial's best so far, and where it was reached."""

    value: float
    number: int
    epoch: int
    curve: Sequence[float]
    values: Mapping[str, Any]


@dataclass
class Running:
    """A trial that has a slot.

    Attributes:
        values: what it changes in the base config.
        counts: whether it may become the best.
        epoch: the last one done.
        curve: the metric by epoch, from the first that was validated.
        best, best_epoch: the best value, and where it was reached.
        gpu: bytes that torch held at most, and that the GPU has; None where it trains on none.
    """

    number: int
    values: Mapping[str, Any]
    counts: bool = True
    epoch: int = 0
    curve: list[float] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    gpu: tuple[int, int] | None = None

    @property
    def reached(self) -> Reached | None:
        """Its best so far; None before its first epoch."""
        if self.best is None:
            return None
        return Reached(self.best, self.number, self.best_epoch, self.curve, self.values)


class StudyState:
    """A study's trials, counted event by event: one costs as much in a long study as in a short one.

    Args:
        options: name the metric and what stops trials.
        max_epochs: of a trial that nobody stops.
        plan: of the trials that are to come.
        title: what the study is called.
        rows: the trials so far, where the study goes on.
        base_counts: whether the base config satisfies the constraints, and so may be the best.
        labels: what trials are called, where it is not by their number.
        place: of their folders, in the study's.
        until: when the time budget ends, by `clock`.
        clock: gives seconds.
    """

    def __init__(
        self,
        options: StudyOptions,
        max_epochs: int,
        plan: Plan,
        title: str = "",
        rows: Sequence[TrialRow] = (),
        base_counts: bool = True,
        labels: Mapping[int, str] | None = None,
        place: str = "",
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options, self.max_epochs, self.plan, self.title = options, max_epochs, plan, title
        self.base_counts, self.labels, self.place = base_counts, labels or {}, place
        self.until, self.clock, self.began_at = until, clock, clock()
        self.sign = 1.0 if options.mode == "max" else -1.0
        self.rungs = rungs_of(options, max_epochs)
        self.running: dict[int, Running] = {}
        self.rows_left = {row.number: row for row in rows if not row.has_ended}
        self.states: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self.arrived: Counter[int] = Counter()  # trials by rung
        self.stopped: Counter[int] = Counter()  # pruned trials by their last epoch
        self.base: Reached | None = None
        self.gpu: tuple[int, int] | None = None  # that any trial needed at most, and that its GPU has
        self._best: Reached | None = None
        self._pace: deque[float] = deque(maxlen=RECENT)
        self._ended, self._their_epochs = 0, 0
        for row in rows:
            self._count(row)
            self._arrive(0, row.epochs)
        self.trials = self.ended + plan.trials
        if (base := base_of(rows)) is not None:
            self.base = _reached(base)

    @property
    def ended(self) -> int:
        """Trials of which nothing is to come; of a population not those that gave their place away."""
        counted = ("complete", "failed") if self.options.scheduler.name == "PBT" else ENDED
        return sum(self.counts[state] for state in counted)

    @property
    def best(self) -> Reached | None:
        """The best value so far, of the trials that ended and of those that run; the first of equals."""
        found = self._best
        for running in self.running.values():
            if running.counts:
                found = self._better(found, running.reached)
        return found

    def name(self, number: int) -> str:
        """What a trial is called."""
        return self.labels.get(number, str(number))

    def log(self, number: int) -> str:
        """Where a trial's log is, in the study's folder."""
        return f"{self.place}trials/{number:04d}/log.txt"

    def began(self, number: int, values: Mapping[str, Any]) -> Running:
        """A trial has a slot, for the first time or once more."""
        if (known := self.running.get(number)) is None:
            known = Running(number, values, self.base_counts or values != BASE)
            if row := self.rows_left.pop(number, None):
                known.epoch, known.curve = row.epochs, list(row.curve)
                known.best, known.best_epoch = row.value, row.best_epoch
            self.running[number] = known
        self._turn(number, "unfinished")
        return known

    def epoch_done(self, number: int, result: Mapping[str, Any]) -> bool:
        """An epoch of a running trial, as it reports it; False for one that was told before."""
        running, epoch, value = self.running[number], result[EPOCH], result[self.options.metric]
        if epoch <= running.epoch:
            return False
        self._arrive(running.epoch, epoch)
        running.epoch = epoch
        running.curve.append(value)
        if running.best is None or self.sign * value > self.sign * running.best:
            running.best, running.best_epoch = value, epoch
        if running.values == BASE:
            self.base = running.reached
        if result.get(GPU_PEAK) and result.get(GPU_TOTAL):
            running.gpu = (result[GPU_PEAK], result[GPU_TOTAL])
            self.gpu = max(self.gpu or running.gpu, running.gpu)
        self._pace.append(self.clock())
        return True

    def ended_as(self, row: TrialRow) -> None:
        """A trial gave its slot back: it ended, or was broken off. Also of one that was never trained."""
        if self.running.pop(row.number, None) and row.has_ended:
            self._ended += 1
            self._their_epochs += row.epochs
        if not row.has_ended:
            self.rows_left[row.number] = row
        self._count(row)

    def passed(self, rung: int) -> int:
        """Trials that went on from a rung."""
        later = next((other for other in self.rungs if other > rung), self.max_epochs)
        return self.arrived[rung] - sum(self.stopped[epoch] for epoch in range(rung, later))

    @property
    def trials_an_hour(self) -> float | None:
        """Trials that ended in an hour, as it has gone so far; None before the first."""
        seconds = self.clock() - self.began_at
        return self._ended * 3600 / seconds if self._ended and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the time to come, at the pace of the last epochs; None before there is one.

        How many epochs a trial takes: what the plan expects of its scheduler, which what the trials took
        replaces as they end.
        """
        now = self.clock()
        first = self._pace[0] if self._pace else now
        if len(self._pace) <= len(self.running) or now <= first:
            return None
        weight = self.plan.slots
        expected = self.plan.epochs_expected / max(1, self.plan.trials)
        each = (expected * weight + self._their_epochs) / (weight + self._ended)
        to_come = max(0, self.trials - self.ended - len(self.running)) * each
        for running in self.running.values():
            whole = self.max_epochs if running.values == BASE else each
            to_come += max(1.0, whole - running.epoch)
        seconds = to_come * (now - first) / (len(self._pace) - 1)
        return seconds if self.until is None else min(seconds, max(0.0, self.until - now))

    def _better(self, one: Reached | None, other: Reached | None) -> Reached | None:
        if one is None or other is None:
            return one or other
        return min(one, other, key=lambda reached: (-self.sign * reached.value, reached.number))

    def _count(self, row: TrialRow) -> None:
        self._turn(row.number, row.state)
        if row.state == "pruned":
            self.stopped[row.epochs] += 1
        if row.value is not None and row.state != "failed" and row.is_feasible:
            self._best = self._better(self._best, _reached(row))

    def _turn(self, number: int, state: str) -> None:
        """Counts a trial in its new state instead of its old one."""
        if (before := self.states.get(number)) is not None:
            self.counts[before] -= 1
        self.states[number] = state
        self.counts[state] += 1

    def _arrive(self, before: int, epoch: int) -> None:
        for rung in self.rungs:
            self.arrived[rung] += before < rung <= epoch


ENDED = ("complete", "pruned", "failed")


def rungs_of(options: StudyOptions, max_epochs: int) -> list[int]:
    """Epochs after which ASHA stops some trials; none for others, whose trials share no rungs."""
    asha, rungs = options.scheduler.options, []
    if options.scheduler.name == "ASHA" and isinstance(asha, ASHA):
        rung = asha.grace_period
        while rung < max_epochs:
            rungs.append(rung)
            rung *= asha.reduction_factor
    return rungs


def _reached(row: TrialRow) -> Reached:
    assert row.value is not None
    return Reached(row.value, row.number, row.best_epoch, row.curve, row.values)
