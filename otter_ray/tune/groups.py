"""Worker groups that a trial left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.placement_group import PlacementGroup, remove_placement_group

from otter_ray.tune.keys import GROUP


class GroupRemover(Callback):  # type: ignore[misc]
    """Gives a trial's worker group's resources back when the trial is over.

    Tune ends a trial by ending its slot: on ASHA's word, and after the last epoch, too. Ray Train's own
    cleaner asks the State API, which answers late, or not at all on a machine with several Rays: without
    this, the next trial would wait for resources for ever.
    """

    def __init__(self) -> None:
        self._groups: dict[str, str] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Learns the trial's group; another one after a restart."""
        if GROUP in result:
            self._groups[trial.trial_id] = result[GROUP]

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Removes it, whose workers end with it."""
        if group := self._groups.pop(trial.trial_id, None):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))

    on_trial_error = on_trial_complete
