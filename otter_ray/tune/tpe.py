"""TPE that sees what the trials that run have shown so far."""

from __future__ import annotations

import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from otter_ray.tune.view import View


class TPE(TPESampler):
    """Tree-structured Parzen estimator (Watanabe 2023, arXiv 2304.11127); what runs counts by its curve.

    Optuna takes all that run for bad ones (`constant_liar`), so that others keep away from them. Under early
    stopping those that run are the best there are: with 32 slots the search kept away from what it should
    have looked for, and drew at random until ten trials had ended (docs/search.md has the measurement). Here
    a trial that has reported counts like one that was stopped at its last epoch.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As Optuna's."""
        return super().infer_relative_search_space(_shown(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's."""
        return super().sample_relative(_shown(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna's."""
        return super().sample_independent(_shown(study), trial, param_name, param_distribution)


def _shown(study: optuna.Study) -> optuna.Study:
    # With several objectives Optuna has no place for a trial that was stopped.
    return study if len(study.directions) > 1 else View(study, lambda trials: [*map(_as_shown, trials)])


def _as_shown(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    return shown
