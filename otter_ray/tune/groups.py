"""Worker groups of Ray Train: what they report, and what they leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.train import Checkpoint
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from otter_ray.tune.keys import GROUP, RUN


class GroupReporter(TuneReportCallback):  # type: ignore[misc]
    """Passes on to Tune what rank 0 reports, with the run that it belongs to."""

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Called in the run's controller, with the metrics of all ranks."""
        super().after_report(run_context, [{**metrics[0], RUN: run_context.run_id}], checkpoint)


class GroupRemover(Callback):  # type: ignore[misc]
    """Gives a trial's worker group's resources back when the trial is over.

    Tune ends a trial by ending its slot: on ASHA's word, and after the last epoch, too. Ray Train's own
    cleaner asks the State API, which answers late, or not at all on a machine with several Rays: without
    this, the next trial would wait for resources for ever, and the autoscaler would go on for three minutes
    to add nodes for the trial that is over.
    """

    def __init__(self) -> None:
        self._groups: dict[str, tuple[str, str]] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Learns the trial's group; another one after a restart."""
        if GROUP in result:
            self._groups[trial.trial_id] = result[GROUP], result[RUN]

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Removes it, whose workers end with it, and what Ray Train asked of the autoscaler for them."""
        if trial.trial_id in self._groups:
            group, run = self._groups.pop(trial.trial_id)
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))
            get_or_create_autoscaling_coordinator().cancel_request.remote(f"train-{run}")

    # Tried again elsewhere it gets another one.
    on_trial_error = on_trial_recover = on_trial_complete
