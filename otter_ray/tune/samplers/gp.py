"""Bayesian optimization with a Gaussian process."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, TrialState

from otter_ray.tune.samplers.filtered_study import FilteredStudy
from otter_ray.tune.samplers.relative import FixedSpaceMixin


class GP(FixedSpaceMixin, GPSampler):
    """Fit a Gaussian process for each draw, and maximize the expected improvement.

    Optuna counts the drawn trial itself among those that run if a driver died after it had drawn some of the
    trial's parameters. The process is fitted to the other trials only.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw as Optuna does, from the other trials, and of those that ended from complete ones only.

        Before any trial is complete, parameters are drawn at random: Optuna, which would not know the space
        yet, cannot fit to nothing.
        """

        def others(trials: list[FrozenTrial]) -> list[FrozenTrial]:
            usable = (t for t in trials if not t.state.is_finished() or self.has_all_parameters(t))
            return [other for other in usable if other.number != trial.number]

        visible = FilteredStudy(study, others)
        if not visible.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return {}
        return super().sample_relative(visible, trial, search_space)
