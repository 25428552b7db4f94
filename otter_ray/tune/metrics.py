"""What a running study tells Ray's dashboard and Prometheus."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.metrics import Gauge

from otter_ray.report.rows import TrialRow, mode_of, rank, read_row, read_rows
from otter_ray.tune.keys import NUMBER

# A gauge's label -> a row's state.
STATES = {"running": "unfinished", "complete": "complete", "pruned": "pruned", "fail": "failed"}
STATES |= {"infeasible": "infeasible"}


class StudyMetrics(Callback):  # type: ignore[misc]
    """Gauges on the driver's node: `ray_otter_ray_trials{study,state}` and `ray_otter_ray_best_value{study}`.

    Args:
        study: the truth about the trials; it is told of an end before callbacks are.
        name: the study's, as `CONFIG/STUDY`.
    """

    def __init__(self, study: optuna.Study, name: str) -> None:
        self.study, self.name = study, name
        self.trials = Gauge("otter_ray_trials", "Trials of a study by state.", tag_keys=("study", "state"))
        self.best = Gauge(
            "otter_ray_best_value", "Best value of a study's ended trials.", tag_keys=("study",)
        )

        self._states: dict[int, str] = {}
        self._best: list[TrialRow] = []
        for row in read_rows(study):
            self._look_at(row)

    def on_trial_start(self, trial: Trial, **info: Any) -> None:
        """A trial began."""
        self._update(trial.config[NUMBER])

    # It ended or was stopped, or its worker died.
    on_trial_complete = on_trial_error = on_trial_start

    def _update(self, number: int) -> None:
        # Trials that a constraint kept from being trained have numbers, too.
        for new in [*range(len(self._states), number), number]:
            self._look_at(read_row(self.study, new))
        counts = Counter(self._states.values())
        for label, state in STATES.items():
            self.trials.set(counts[state], {"study": self.name, "state": label})
        if self._best:
            self.best.set(self._best[0].value, {"study": self.name})

    def _look_at(self, row: TrialRow) -> None:
        self._states[row.number] = row.state
        if row.state == "complete":
            self._best = rank([*self._best, row], mode_of(self.study))[:1]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}
