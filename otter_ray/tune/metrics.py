"""What a running study tells Ray's dashboard and Prometheus."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Gauge
from rich.console import Console

from otter_ray.tune.show import Show
from otter_ray.tune.state import StudyState

# A gauge's label -> a row's state, of trials that have none of the slots.
STATES = {"complete": "complete", "pruned": "pruned", "fail": "failed", "infeasible": "infeasible"}


class StudyMetrics(Show):
    """Gauges of the driver's node: `ray_otter_ray_trials{study,state}`, `ray_otter_ray_best_value{study}`."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.trials = Gauge("otter_ray_trials", "Trials of a study by state.", tag_keys=("study", "state"))
        self.best = Gauge("otter_ray_best_value", "Best value of a study so far.", tag_keys=("study",))

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Sets them to what the state says now."""
        if state is None:
            return
        counts = {label: state.counts[name] for label, name in STATES.items()}
        for label, count in {"running": len(state.running), **counts}.items():
            self.trials.set(count, {"study": state.title, "state": label})
        if (best := state.best) is not None:
            self.best.set(best.value, {"study": state.title})
