"""A study as gauges, for Ray's dashboard and Prometheus."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Gauge

from otter_ray.study.status import TrialStatus
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.ray_compat import ascii_name

# The status of a trial that occupies no slot -> its label in the gauge.
LABELS = {
    TrialStatus.COMPLETE: "complete",
    TrialStatus.PRUNED: "pruned",
    TrialStatus.FAILED: "fail",
    TrialStatus.INFEASIBLE: "infeasible",
}


class PrometheusReporter(ProgressReporter):
    """Set the gauges of the driver's node.

    They are `ray_otter_ray_trials{study,state}` and `ray_otter_ray_best_value{study}`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trials = Gauge("otter_ray_trials", "Trials of a study by state.", tag_keys=("study", "state"))
        self.best = Gauge("otter_ray_best_value", "Best value of a study so far.", tag_keys=("study",))

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Set the gauges to what the state says now."""
        if state is None:
            return
        study = ascii_name(state.names.title)  # Ray encodes labels as ASCII
        counts = {label: state.counts[status] for status, label in LABELS.items()}
        for label, count in {"running": len(state.running), **counts}.items():
            self.trials.set(count, {"study": study, "state": label})
        if (best := state.best) is not None:
            self.best.set(best.value, {"study": study})
