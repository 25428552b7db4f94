"""A study as a sampler is to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container

import optuna
from optuna.trial import FrozenTrial, TrialState


class View(optuna.Study):
    """A study with other trials than it has, for one draw: it looks once, and shows what there was then.

    Args:
        see: gives the trials to show for all that there are.
    """

    def __init__(self, study: optuna.Study, see: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        self.__dict__.update(study.__dict__)
        self._see = see
        self._shown: list[FrozenTrial] | None = None

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        if self._shown is None:
            self._shown = self._see(super()._get_trials(False, None, use_cache))
        found = [trial for trial in self._shown if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found
