"""TPE that sees what the trials that run have shown so far."""

from __future__ import annotations

import copy
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from otter_ray.report.rows import mode_of
from otter_ray.tune.stateless import Searched
from otter_ray.tune.view import View

LOOKS_AT = 500
BEST = 100  # of them; Optuna takes 25 for good ones, and the rest for bad ones


class TPE(TPESampler):
    """Tree-structured Parzen estimator (Watanabe 2023, arXiv 2304.11127); what runs counts by its curve.

    Optuna takes all that run for bad ones (`constant_liar`), so that others keep away from them. Under early
    stopping those that run are the best there are: with 32 slots the search kept away from what it should
    have looked for, and drew at random until ten trials had ended (docs/search.md has the measurement). Here
    a trial that has reported counts like one that was stopped at its last epoch.

    A draw looks at `LOOKS_AT` trials at most, the best and the newest, so that the ten thousandth costs what
    the thousandth does. Optuna gives old trials less and less weight anyway.

    Args:
        searched: what is drawn together. Optuna finds it by going through all trials.
        looked_at: of the study; for one that is drawn from once it need not be given.
        options: Optuna's.
    """

    def __init__(
        self, searched: Searched | None = None, looked_at: LookedAt | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.searched, self.looked_at = searched, looked_at or LookedAt()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As Optuna's."""
        if self.searched is None or self._group or not self._is_multivariate(study):
            return super().infer_relative_search_space(self._shown(study), trial)
        return dict(sorted(self.searched.items()))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's."""
        return super().sample_relative(self._shown(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna's."""
        return super().sample_independent(self._shown(study), trial, param_name, param_distribution)

    def _shown(self, study: optuna.Study) -> optuna.Study:
        # With several objectives Optuna has no place for a trial that was stopped.
        return study if len(study.directions) > 1 else View(study, partial(self.looked_at, mode_of(study)))


class LookedAt:
    """The trials of one study that a draw looks at, in their order, those that run as they are to count.

    It remembers the best of those that are not among the newest, which follow from the trials alone.
    """

    def __init__(self) -> None:
        self._passed, self._open = 0, list[int]()
        self._best: list[FrozenTrial] = []

    def __call__(self, mode: str, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Of all trials of the study, by number."""
        if len(trials) <= LOOKS_AT:
            return [*map(_as_shown, trials)]
        newest = len(trials) - LOOKS_AT + BEST
        passed = [trials[number] for number in (*self._open, *range(self._passed, newest))]
        self._passed, self._open = newest, [t.number for t in passed if not t.state.is_finished()]
        done = (trial for trial in passed if trial.state == TrialState.COMPLETE)
        sign = 1.0 if mode == "max" else -1.0
        self._best = nlargest(
            BEST, (*self._best, *done), key=lambda t: (sign * cast(float, t.value), -t.number)
        )
        return [*map(_as_shown, sorted(self._best, key=attrgetter("number")) + trials[newest:])]


def _as_shown(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    return shown
