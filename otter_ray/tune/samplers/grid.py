"""Grid search."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import product
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from otter_ray.space.grid import grid_index, grid_values
from otter_ray.study.distributions import to_parameter
from otter_ray.study.schema import FIXED
from otter_ray.tune.samplers.relative import RelativeSpace


class Grid(BaseSampler):
    """Draw every point of the grid once, in an order shuffled by the seed.

    A trial gets the first point that no earlier trial has and that agrees with the trial's fixed parameters.
    The base config and the trials of a warm start may be grid points or not. Optuna's own sampler marks
    points in the journal, gives queued trials other points than they have, and ends a study by an exception.

    Args:
        searched: The parameters of the grid, by name.
        seed: Of the order.
    """

    def __init__(self, searched: RelativeSpace, seed: int | None = None) -> None:
        self.searched = dict(searched)
        self.parameters = [to_parameter(name, found) for name, found in searched.items()]
        self.values = [grid_values(parameter) for parameter in self.parameters]
        self.points = [*product(*map(range, map(len, self.values)))]
        random.Random(seed).shuffle(self.points)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self.searched

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the trial's point."""
        taken = {self._point(earlier.params) for earlier in study.get_trials(deepcopy=False)[: trial.number]}
        fixed = self._point({**trial.system_attrs.get(FIXED, {}), **trial.params})
        fitting = [p for p in self.points if all(f in (None, i) for f, i in zip(fixed, p, strict=True))]
        point = next((point for point in fitting if point not in taken), fitting[0])
        return {p.name: v[i] for p, v, i in zip(self.parameters, self.values, point, strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse: `sample_relative` draws every parameter.

        Raises:
            AssertionError: Always.
        """
        raise AssertionError(f"{param_name} is not on the grid")

    def _point(self, params: Mapping[str, Any]) -> tuple[int | None, ...]:
        """Return an index into each parameter's values; None if the parameter is missing."""
        return tuple(grid_index(p, params[p.name]) if p.name in params else None for p in self.parameters)
