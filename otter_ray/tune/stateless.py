"""Optuna's samplers that keep something from one draw to the next, with all of it read off the trials.

Optuna takes what earlier trials have in common for the space that they search. Here it is known beforehand
(`searched`): a base config with a value outside its range would take that parameter out of the search.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import product
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from otter_ray.config.grid import grid_index, grid_values
from otter_ray.tune.distributions import to_parameter
from otter_ray.tune.keys import FIXED
from otter_ray.tune.view import View

Searched = Mapping[str, BaseDistribution]


class _Together:
    """Mixin: the space that is searched is known beforehand."""

    def __init__(self, searched: Searched, **options: Any) -> None:
        super().__init__(**options)
        self.searched = dict(searched)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All of it."""
        return self.searched

    def _has_all(self, trial: FrozenTrial) -> bool:
        return self.searched.keys() <= trial.params.keys()


class CmaEs(_Together, CmaEsSampler):
    """CMA-ES (Hansen 2016, arXiv 1604.00772), its state told anew from the generations that are complete.

    Optuna keeps the optimizer in the journal as a pickle, which whoever can write there could make run.
    """

    def __init__(self, searched: Searched, popsize: int | None = None, **options: Any) -> None:
        if popsize is not None and popsize < 4:
            raise ValueError(f"popsize is {popsize} but must be at least 4")
        super().__init__(searched, popsize=popsize, **options)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._completed = completed_trials

    def _init_optimizer(self, trans: Any, direction: Any) -> Any:
        """The optimizer after all generations that are complete: Optuna finds none that it would tell."""
        optimizer = super()._init_optimizer(trans, direction)
        size, sign = optimizer.population_size, 1 if direction == StudyDirection.MINIMIZE else -1
        while len(told := self._get_solution_trials(self._completed, optimizer.generation)) >= size:
            optimizer.tell(
                [(self._point(trial, trans), sign * cast(float, trial.value)) for trial in told[:size]]
            )
        return optimizer

    def _get_solution_trials(self, trials: list[FrozenTrial], generation: int) -> list[FrozenTrial]:
        """In the order in which they ended: a late one must not change what a generation was."""
        found = super()._get_solution_trials(trials, generation)
        return sorted(filter(self._has_all, found), key=lambda trial: (trial.datetime_complete, trial.number))

    def _has_all(self, trial: FrozenTrial) -> bool:
        point = trial.system_attrs.get("x_for_tell", self.searched)
        return super()._has_all(trial) and len(point) == len(self.searched)

    def _point(self, trial: FrozenTrial, trans: Any) -> Any:
        point = trial.system_attrs.get("x_for_tell") if self._with_margin else None
        return trans.transform(trial.params) if point is None else np.array(point)


class GP(_Together, GPSampler):
    """A Gaussian process and the expected improvement; each draw fits it anew.

    Optuna counts the trial itself among those that run, once a driver that died has drawn a part of it.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's, from the other trials alone, and from finished ones that have all that is searched."""

        def others(trials: list[FrozenTrial]) -> list[FrozenTrial]:
            known = (other for other in trials if not other.state.is_finished() or self._has_all(other))
            return [other for other in known if other.number != trial.number]

        return super().sample_relative(View(study, others), trial, search_space)


class NSGAII(_Together, NSGAIISampler):
    """NSGA-II (Deb et al. 2002); trials of a narrower space are nobody's parents."""

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """As Optuna's."""
        return [*filter(self._has_all, super().get_population(study, generation))]


class QMC(_Together, QMCSampler):
    """A quasi-random sequence. The n-th trial that is drawn gets its n-th point.

    Optuna counts in the study's attributes: a driver that dies while it draws would skip a point.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's."""
        before = study.get_trials(deepcopy=False)[: trial.number]
        self._drawn = sum(FIXED not in earlier.system_attrs for earlier in before)
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._drawn


class Grid(BaseSampler):
    """Every point of the grid once, in an order shuffled by the seed.

    A trial gets the first point that no earlier one has, of those that agree with what it must have: the
    base config and the trials of a warm start are points, too, or none. Optuna's own sampler marks the
    points in the journal, gives queued trials others than they have, and ends a study by an exception.
    """

    def __init__(self, searched: Searched, seed: int | None = None) -> None:
        self.searched = dict(searched)
        self.parameters = [to_parameter(name, found) for name, found in searched.items()]
        self.values = [grid_values(parameter) for parameter in self.parameters]
        self.points = [*product(*map(range, map(len, self.values)))]
        random.Random(seed).shuffle(self.points)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All of it."""
        return self.searched

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's point."""
        taken = {self._point(earlier.params) for earlier in study.get_trials(deepcopy=False)[: trial.number]}
        fixed = self._point({**trial.system_attrs.get(FIXED, {}), **trial.params})
        fitting = [p for p in self.points if all(f in (None, i) for f, i in zip(fixed, p, strict=True))]
        point = next((point for point in fitting if point not in taken), fitting[0])
        return {p.name: v[i] for p, v, i in zip(self.parameters, self.values, point, strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked: `sample_relative` gives all."""
        raise AssertionError(f"{param_name} is not on the grid")

    def _point(self, params: Mapping[str, Any]) -> tuple[int | None, ...]:
        """An index of each parameter's values; None where there is none."""
        return tuple(grid_index(p, params[p.name]) if p.name in params else None for p in self.parameters)
