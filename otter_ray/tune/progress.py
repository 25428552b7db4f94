"""What a running study prints: one line for each epoch of each trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from otter_ray.config import StudyOptions
from otter_ray.tune.gpu import suggestion
from otter_ray.tune.keys import BASE, EPOCH, ERROR, GPU_PEAK, GPU_TOTAL, NUMBER, VALUES
from otter_ray.tune.plan import Plan


class ProgressLines(Callback):  # type: ignore[misc]
    """Prints each epoch as it is reported, beside the best so far.

    Args:
        console: where to.
        study: names the metric.
        max_epochs: of a trial that nobody stops.
        plan: of the study.
    """

    def __init__(self, console: Console, study: StudyOptions, max_epochs: int, plan: Plan) -> None:
        self.console, self.metric, self.max_epochs, self.plan = console, study.metric, max_epochs, plan
        self.sign = 1.0 if study.mode == "max" else -1.0
        self.best: tuple[float, int] | None = None
        self.told: dict[int, int] = {}
        self.ended, self.measured = 0, False
        self.started = time.perf_counter()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """One epoch, or the failure, of one trial."""
        number = trial.config[NUMBER]
        if ERROR in result:
            self._print(trial, f"failed: {result[ERROR]} (its log.txt says more)", "red")
            return
        if result[EPOCH] <= self.told.get(number, 0):
            return  # a trial that goes on after its node died begins with what it reported last
        self.told[number] = result[EPOCH]
        value = result[self.metric]
        if self.best is None or self.sign * value > self.sign * self.best[0]:
            self.best = value, number
        stopped = result.get("done") and result[EPOCH] < self.max_epochs
        ending = "  stopped" if stopped else ""
        best, whose = self.best
        self._print(
            trial,
            f"epoch {result[EPOCH]}/{self.max_epochs}  {self.metric} {value:.4f}  "
            f"(best {best:.4f}, trial {whose}){ending}",
        )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Counts the ended trials; the first on a GPU tells how many could share one."""
        self.ended += 1
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
        name = "base" if trial.config[VALUES] == BASE else f"{trial.config[NUMBER]:4d}"
        where = f"{minutes:3d}:{seconds:02d}  {self.ended:3d}/{self.plan.trials} done  trial {name}"
        self.console.print(f"{where}  {text}", style=style)
