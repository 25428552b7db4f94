"""A study as a sampler is to see it."""

from __future__ import annotations

from collections.abc import Callable, Container

import optuna
from optuna.trial import FrozenTrial, TrialState


class View(optuna.Study):
    """A study with other trials than it has; asking for states looks at the trials that it shows.

    Args:
        see: gives the trials to show for all that there are.
    """

    def __init__(self, study: optuna.Study, see: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        self.__dict__.update(study.__dict__)
        self._see = see

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        shown = self._see(super()._get_trials(deepcopy, None, use_cache))
        return [trial for trial in shown if states is None or trial.state in states]
