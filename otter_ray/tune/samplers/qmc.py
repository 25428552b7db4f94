"""Quasi-random search."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from otter_ray.study.schema import FIXED
from otter_ray.tune.samplers.optuna_compat import IndexedQMCSampler
from otter_ray.tune.samplers.relative import FixedSpaceMixin


class QMC(FixedSpaceMixin, IndexedQMCSampler):
    """Give the n-th trial that is drawn the n-th point of a quasi-random sequence.

    Optuna counts points in the study's attributes. A driver that died during a draw would skip a point.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw as Optuna does, after counting the trials that were drawn before this one."""
        before = study.get_trials(deepcopy=False)[: trial.number]
        self.point_index = sum(FIXED not in earlier.system_attrs for earlier in before)
        return super().sample_relative(study, trial, search_space)
