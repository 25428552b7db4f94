"""Give back what a trial's worker group leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.placement_group import PlacementGroup, remove_placement_group

from otter_ray.tune.messages import WorkerGroup
from otter_ray.tune.ray_compat import cancel_train_request


class WorkerGroupCleanup(Callback):  # type: ignore[misc]
    """Give the resources of a trial's worker group back when the trial is over.

    Tune ends a trial by ending its slot, both when the scheduler stops it and after its last epoch. The
    cleaner of Ray Train asks the State API, which answers late, or not at all on a machine with several Rays.
    Without this class the next trial would wait for resources for ever, and for three minutes the autoscaler
    would add nodes for the trial that is over.
    """

    def __init__(self) -> None:
        self._groups: dict[str, WorkerGroup] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Note the trial's group, which is another one after a restart."""
        if group := WorkerGroup.from_tune(result):
            self._groups[trial.trial_id] = group

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Remove the group, with its workers, and what Ray Train asked of the autoscaler for them."""
        if group := self._groups.pop(trial.trial_id, None):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group.placement_group)))
            cancel_train_request(group.run)

    # A trial that is tried again elsewhere gets another group.
    on_trial_error = on_trial_recover = on_trial_complete
