"""The state of a running study, updated event by event, for all reporters."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from otter_ray.space import StudyOptions
from otter_ray.study.naming import UNNAMED, StudyNames
from otter_ray.study.schema import BASE
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord, base_of, direction_of, rank, read_records
from otter_ray.tune.cluster.planner import Plan
from otter_ray.tune.messages import EpochResult, GpuMemory

RECENT = 64  # epochs whose pace says how fast the study is


@dataclass(frozen=True)
class BestValue:
    """The best value of the metric that a trial has had so far, and where it was reached."""

    value: float
    number: int
    epoch: int
    curve: Sequence[float]
    values: Mapping[str, Any]


@dataclass
class RunningTrial:
    """A trial that occupies a worker slot.

    Attributes:
        values: its changes to the base config.
        counts: whether it may become the best.
        epoch: the last finished one.
        curve: the metric by epoch, from the first that was validated.
        best, best_epoch: the best value, and the epoch that reached it.
        gpu: what torch held at most of its GPU's memory; None without a GPU.
    """

    number: int
    values: Mapping[str, Any]
    counts: bool = True
    epoch: int = 0
    curve: list[float] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    gpu: GpuMemory | None = None

    @property
    def best_so_far(self) -> BestValue | None:
        """Its best value so far; None before its first epoch."""
        if self.best is None:
            return None
        return BestValue(self.best, self.number, self.best_epoch, self.curve, self.values)


class StudyState:
    """Count a study's trials event by event. An event costs as much in a long study as in a short one.

    Args:
        options: name the metric and the scheduler.
        max_epochs: of a trial that is not stopped early.
        plan: of the trials to come.
        names: of the study and its trials.
        rows: the trials so far, if the study is resumed.
        base_counts: whether the base config satisfies the constraints, and so may be the best.
        until: when the time budget ends, by `clock`.
        clock: returns seconds.
    """

    def __init__(
        self,
        options: StudyOptions,
        max_epochs: int,
        plan: Plan,
        names: StudyNames = UNNAMED,
        rows: Sequence[TrialRecord] = (),
        base_counts: bool = True,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options, self.max_epochs, self.plan, self.names = options, max_epochs, plan, names
        self.base_counts = base_counts
        self.until, self.clock, self.began_at = until, clock, clock()
        self.direction = options.direction
        self.rungs = options.scheduler.options.rungs(max_epochs)
        self.running: dict[int, RunningTrial] = {}
        self.rows_left = {row.number: row for row in rows if not row.has_ended}
        self.states: dict[int, TrialStatus] = {}
        self.counts: Counter[TrialStatus] = Counter()
        self.arrived: Counter[int] = Counter()  # trials by rung
        self.stopped: Counter[int] = Counter()  # pruned trials by their last epoch
        self.base: BestValue | None = None
        self.gpu: GpuMemory | None = None  # the most that any trial needed, and what its GPU has
        self._best: BestValue | None = None
        self._pace: deque[float] = deque(maxlen=RECENT)
        self._ended, self._their_epochs = 0, 0
        for row in rows:
            self._count(row)
            self._arrive(0, row.epochs)
        self.trials = self.ended + plan.trials
        if (base := base_of(rows)) is not None:
            self.base = _best_value(base)

    @property
    def ended(self) -> int:
        """Trials that are over; in a population without those that gave their place to another trial."""
        stopped_count = not self.options.scheduler.options.replaces_stopped
        return sum(
            count
            for status, count in self.counts.items()
            if status.has_ended and (stopped_count or status != TrialStatus.PRUNED)
        )

    @property
    def best(self) -> BestValue | None:
        """The best value so far of ended and of running trials; among equals the first one's."""
        found = self._best
        for running in self.running.values():
            if running.counts:
                found = self._better(found, running.best_so_far)
        return found

    def began(self, number: int, values: Mapping[str, Any]) -> RunningTrial:
        """Note that a trial has a slot, for the first time or again."""
        if (known := self.running.get(number)) is None:
            known = RunningTrial(number, values, self.base_counts or values != BASE)
            if row := self.rows_left.pop(number, None):
                known.epoch, known.curve = row.epochs, list(row.curve)
                known.best, known.best_epoch = row.value, row.best_epoch
            self.running[number] = known
        self._turn(number, TrialStatus.UNFINISHED)
        return known

    def epoch_done(self, number: int, result: EpochResult) -> bool:
        """Count an epoch that a running trial reports; return False for an epoch that it reported before."""
        running = self.running[number]
        if result.epoch <= running.epoch:
            return False
        self._arrive(running.epoch, result.epoch)
        running.epoch = result.epoch
        running.curve.append(result.value)
        if running.best is None or self.direction.is_better(result.value, running.best):
            running.best, running.best_epoch = result.value, result.epoch
        if running.values == BASE:
            self.base = running.best_so_far
        if gpu := result.resources.gpu:
            running.gpu = gpu
            self.gpu = max(self.gpu or gpu, gpu)
        self._pace.append(self.clock())
        return True

    def ended_as(self, row: TrialRecord) -> None:
        """Note that a trial ended or was interrupted and gave its slot back, or that it was never trained."""
        if self.running.pop(row.number, None) and row.has_ended:
            self._ended += 1
            self._their_epochs += row.epochs
        if not row.has_ended:
            self.rows_left[row.number] = row
        self._count(row)

    def passed(self, rung: int) -> int:
        """Count the trials that passed a rung."""
        later = next((other for other in self.rungs if other > rung), self.max_epochs)
        return self.arrived[rung] - sum(self.stopped[epoch] for epoch in range(rung, later))

    @property
    def trials_an_hour(self) -> float | None:
        """Trials that end in an hour, at the pace so far; None before the first one ends."""
        seconds = self.clock() - self.began_at
        return self._ended * 3600 / seconds if self._ended and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the time left, at the pace of the last epochs; None before there is one.

        At first a trial counts as many epochs as the plan expects from its scheduler. As trials end, the
        epochs that they took replace that number.
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

    def _better(self, one: BestValue | None, other: BestValue | None) -> BestValue | None:
        if one is None or other is None:
            return one or other
        return min(one, other, key=lambda best: (-self.direction.sign * best.value, best.number))

    def _count(self, row: TrialRecord) -> None:
        self._turn(row.number, row.state)
        if row.state == TrialStatus.PRUNED:
            self.stopped[row.epochs] += 1
        if row.value is not None and row.state != TrialStatus.FAILED and row.is_feasible:
            self._best = self._better(self._best, _best_value(row))

    def _turn(self, number: int, state: TrialStatus) -> None:
        """Count a trial in its new state instead of its old one."""
        if (before := self.states.get(number)) is not None:
            self.counts[before] -= 1
        self.states[number] = state
        self.counts[state] += 1

    def _arrive(self, before: int, epoch: int) -> None:
        for rung in self.rungs:
            self.arrived[rung] += before < rung <= epoch


def _best_value(row: TrialRecord) -> BestValue:
    assert row.value is not None
    return BestValue(row.value, row.number, row.best_epoch, row.curve, row.values)


def summary(study: optuna.Study) -> dict[str, Any]:
    """Return facts about a study that is over: its trials by state, the best one, and the base config.

    Args:
        study: read from its journal.
    """
    rows = read_records(study)
    best, base = next(iter(rank(rows, direction_of(study))), None), base_of(rows)
    trials = Counter(row.state for row in rows)
    return {"trials": dict(trials), "best": _reached_by(best), "base": _reached_by(base)}


def _reached_by(row: TrialRecord | None) -> dict[str, Any] | None:
    return {"trial": row.number, "value": row.value, "epoch": row.best_epoch} if row else None
