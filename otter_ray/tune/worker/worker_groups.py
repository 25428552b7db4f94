"""What a worker group of Ray Train reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from otter_ray.tune.messages import WorkerGroup
from otter_ray.tune.ray_compat import train_run_id


class GroupReporter(TuneReportCallback):  # type: ignore[misc]
    """Pass on to Tune what rank 0 reports, with the run that it belongs to."""

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Report the metrics of rank 0. The run's controller calls it with those of all ranks."""
        report, group = metrics[0], WorkerGroup.from_tune(metrics[0])
        if group is not None:
            report = {**report, **replace(group, run=train_run_id(run_context)).to_tune()}
        super().after_report(run_context, [report], checkpoint)
