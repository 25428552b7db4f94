"""What a running study tells Ray's dashboard and Prometheus."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
from ray.tune import Callback
from ray.util.metrics import Gauge

from otter_ray.report.rows import mode_of, rank, read_rows

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

    def on_trial_start(self, **info: Any) -> None:
        """A trial began."""
        self.update()

    def on_trial_complete(self, **info: Any) -> None:
        """A trial ended or was stopped."""
        self.update()

    def on_trial_error(self, **info: Any) -> None:
        """A trial's worker died."""
        self.update()

    def update(self) -> None:
        """Sets every gauge."""
        rows = read_rows(self.study)
        counts = Counter(row.state for row in rows)
        for label, state in STATES.items():
            self.trials.set(counts[state], {"study": self.name, "state": label})
        if best := rank([row for row in rows if row.state == "complete"], mode_of(self.study)):
            self.best.set(best[0].value, {"study": self.name})

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}
