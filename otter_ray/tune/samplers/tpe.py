"""TPE that sees what running trials have shown so far."""

from __future__ import annotations

import copy
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from otter_ray.direction import Direction
from otter_ray.study.trials import direction_of
from otter_ray.tune.samplers.filtered_study import FilteredStudy
from otter_ray.tune.samplers.optuna_compat import ScottTPESampler, draws_one_space
from otter_ray.tune.samplers.relative import RelativeSpace

WINDOW_SIZE = 500  # trials that a draw looks at
KEPT_BEST = 100  # of them; Optuna takes 25 for good ones, and the rest for bad ones


class TPE(ScottTPESampler):
    """Tree-structured Parzen estimator (Watanabe 2023, arXiv 2304.11127) that rates running trials by curve.

    Optuna rates all running trials as bad (`constant_liar`), so that new ones keep away from them. With early
    stopping the running trials are the best there are. With 32 slots the search kept away from the region it
    should have looked at, and drew at random until ten trials had ended
    (docs/explanation/defaults.md has the measurement).
    Here a trial that has reported counts like one that was stopped at its last epoch.

    A draw looks at `WINDOW_SIZE` trials at most, the best and the newest, so that draw 10,000 costs what draw
    1,000 does. Optuna gives old trials less and less weight anyway.

    Args:
        searched: The parameters that are drawn together. None: Optuna finds them by reading all trials.
        window: Of the study. A sampler for a single draw needs none.
        options: Those of Optuna's class.
    """

    def __init__(
        self, searched: RelativeSpace | None = None, window: HistoryWindow | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.searched, self.window = searched, window or HistoryWindow()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the given space, or what Optuna infers."""
        if self.searched is None or not draws_one_space(self, study):
            return super().infer_relative_search_space(self._visible(study), trial)
        return dict(sorted(self.searched.items()))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw as Optuna does, from the window."""
        return super().sample_relative(self._visible(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw as Optuna does, from the window."""
        return super().sample_independent(self._visible(study), trial, param_name, param_distribution)

    def _visible(self, study: optuna.Study) -> optuna.Study:
        if len(study.directions) > 1:
            return study  # with several objectives Optuna cannot use a trial that was stopped
        return FilteredStudy(study, partial(self.window.select, direction_of(study)))


class HistoryWindow:
    """Select the trials of one study that a draw looks at.

    It remembers the best of the trials that are not among the newest, which follow from the trials alone.
    """

    def __init__(self) -> None:
        self._passed, self._open = 0, list[int]()
        self._best: list[FrozenTrial] = []

    def select(self, direction: Direction, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the best and the newest trials in their order, running ones as the sampler is to see them.

        Args:
            direction: Which values of the metric are better.
            trials: All trials of the study, by number.
        """
        if len(trials) <= WINDOW_SIZE:
            return [*map(_as_stopped, trials)]
        newest = len(trials) - WINDOW_SIZE + KEPT_BEST
        passed = [trials[number] for number in (*self._open, *range(self._passed, newest))]
        self._passed, self._open = newest, [t.number for t in passed if not t.state.is_finished()]
        done = (trial for trial in passed if trial.state == TrialState.COMPLETE)
        self._best = nlargest(
            KEPT_BEST, (*self._best, *done), key=lambda t: (direction.sign * cast(float, t.value), -t.number)
        )
        return [*map(_as_stopped, sorted(self._best, key=attrgetter("number")) + trials[newest:])]


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    stopped = copy.copy(trial)
    stopped.state = TrialState.PRUNED
    return stopped
