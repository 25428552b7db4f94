"""What a running study prints: one line for each epoch of each trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from otter_ray.config import StudyOptions
from otter_ray.report.rows import TrialRow, rank
from otter_ray.tune.gpu import suggestion
from otter_ray.tune.keys import BASE, EPOCH, ERROR, GPU_PEAK, GPU_TOTAL, NUMBER, VALUES
from otter_ray.tune.plan import Plan

DEATH = "its process died"


class ProgressLines(Callback):  # type: ignore[misc]
    """Prints each epoch as it is reported, beside the best so far.

    Args:
        console: where to.
        study: names the metric.
        max_epochs: of a trial that nobody stops.
        plan: of the study.
        rows: its trials so far, where it goes on.
        base_counts: whether the base config satisfies the constraints, and so may be the best.
        labels: what trials are called, where it is not by their number.
        place: of their folders, in the study's.
    """

    def __init__(
        self,
        console: Console,
        study: StudyOptions,
        max_epochs: int,
        plan: Plan,
        rows: Sequence[TrialRow] = (),
        base_counts: bool = True,
        labels: Mapping[int, str] | None = None,
        place: str = "",
    ) -> None:
        self.labels, self.place = labels or {}, place
        self.console, self.metric, self.max_epochs, self.plan = console, study.metric, max_epochs, plan
        self.retries, self.base_counts = study.retries, base_counts
        self.sign = 1.0 if study.mode == "max" else -1.0
        best = next(iter(rank(rows, study.mode)), None)
        self.best = (best.value, best.number) if best and best.value is not None else None
        self.told = {row.number: row.epochs for row in rows}
        # One of a population gives its place to another trial, which counts in its stead.
        self.is_population = study.scheduler.name == "PBT"
        given_up = "pruned" if self.is_population else ""
        self.ended = sum(row.has_ended and row.state != given_up for row in rows)
        self.measured = False
        self.trials = self.ended + plan.trials
        self.started = time.perf_counter()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """One epoch, or the failure, of one trial."""
        number = trial.config[NUMBER]
        if ERROR in result:
            again = "" if result.get("done") else "; it goes on from its last checkpoint"
            log = f"{self.place}trials/{number:04d}/log.txt"
            self._print(trial, f"failed: {result[ERROR]} (see {log}){again}", "red")
            return
        if result[EPOCH] <= self.told.get(number, 0):
            return  # a trial that goes on after its node died begins with what it reported last
        self.told[number] = result[EPOCH]
        value = result[self.metric]
        counts = self.base_counts or trial.config[VALUES] != BASE
        if counts and (self.best is None or self.sign * value > self.sign * self.best[0]):
            self.best = value, number
        stopped = result.get("done") and result[EPOCH] < self.max_epochs
        ending = "  stopped" if stopped else ""
        best = "  (violates a constraint)"
        if self.best:
            highest, whose = self.best
            best = f"  (best {highest:.4f}, trial {self.labels.get(whose, whose)})"
        self._print(
            trial, f"epoch {result[EPOCH]}/{self.max_epochs}  {self.metric} {value:.4f}{best}{ending}"
        )

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its process or its node died."""
        self._print(trial, f"{DEATH}; it goes on from its last checkpoint", "red")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It died once more, and there is no further attempt; or before it began, and is handed out again."""
        if trial.num_failures <= self.retries:
            self.on_trial_recover(iteration, trials, trial)
            return
        self.ended += 1
        self._print(trial, f"failed: {DEATH}", "red")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Counts the ended trials; the first on a GPU tells how many could share one."""
        last = trial.last_result
        self.ended += not self.is_population or ERROR in last or last.get(EPOCH, 0) >= self.max_epochs
        peak, total = (trial.last_result.get(key) for key in (GPU_PEAK, GPU_TOTAL))
        if peak and total and not self.measured:
            self.measured = True
            if text := suggestion(trial.config[NUMBER], peak, total, self.plan):
                self.console.print(text)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back; a console cannot be pickled."""
        return {}

    def _print(self, trial: Trial, text: str, style: str | None = None) -> None:
        minutes, seconds = divmod(int(time.perf_counter() - self.started), 60)
        number = trial.config[NUMBER]
        name = "base" if trial.config[VALUES] == BASE else self.labels.get(number, f"{number:4d}")
        where = f"{minutes:3d}:{seconds:02d}  {self.ended:3d}/{self.trials} done  trial {name}"
        self.console.print(f"{where}  {text}", style=style)
