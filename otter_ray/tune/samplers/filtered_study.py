"""A study as a sampler is to see it."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial

from otter_ray.tune.samplers.optuna_compat import StudyProxy


class FilteredStudy(StudyProxy):
    """Show a sampler other trials than the study has, for one draw.

    The study is read once. Later reads return the same trials.

    Args:
        study: Where everything but the trials comes from.
        select: Returns the trials to show, given all trials of the study.
    """

    def __init__(self, study: optuna.Study, select: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        super().__init__(study)
        self._select = select
        self._selected: list[FrozenTrial] | None = None

    def list_trials(self, use_cache: bool) -> list[FrozenTrial]:
        """Return the selected trials."""
        if self._selected is None:
            self._selected = self._select(super().list_trials(use_cache))
        return self._selected
