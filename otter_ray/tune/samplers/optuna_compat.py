"""What our samplers need of Optuna's that is not public, under public names.

Written for Optuna 5.0. Each touch has a test in `tests/unit/tune/samplers/test_optuna_compat.py` that fails
by name when Optuna changes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import CmaEsSampler, QMCSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# Where CMA-ES with margin keeps, of a trial, the point that the optimizer is to be told of.
MARGIN_POINT = "x_for_tell"

# Optuna 4's factor in Scott's rule. From 0.2 to 0.4 it hardly matters to what a search finds.
SCOTT_SCALE = 0.2

ToPoint = Callable[[dict[str, Any]], Any]


class HookedCmaEsSampler(CmaEsSampler):
    """A CMA-ES whose optimizer is made by a subclass, and never read from a pickle in the journal.

    Reason: Optuna's `sample_relative` restores the optimizer or makes a new one, and tells it of the current
    generation. There is no public way to give it one.
    """

    def advance(self, optimizer: Any, to_point: ToPoint, sign: int) -> Any:
        """Return the optimizer that draws, given a new one.

        Args:
            optimizer: As it is before the first generation.
            to_point: Converts a trial's parameters to a point of the optimizer's space.
            sign: By which a value is multiplied, for the optimizer minimizes.
        """
        return optimizer

    def select_generation(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return those trials of a generation that the optimizer is told of, in that order."""
        return trials

    def generation(self, number: int) -> list[FrozenTrial]:
        """Return what `select_generation` does of a generation, of the trials that had ended at the draw."""
        return self._get_solution_trials(self._completed, number)

    @property
    def has_margin(self) -> bool:
        """Whether the optimizer handles steps by itself, and is told of other points than were drawn."""
        return bool(self._with_margin)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._completed = completed_trials

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        return self.advance(super()._init_optimizer(trans, direction), trans.transform, sign)

    def _get_solution_trials(self, trials: list[FrozenTrial], generation: int) -> list[FrozenTrial]:
        return self.select_generation(super()._get_solution_trials(trials, generation))


class IndexedQMCSampler(QMCSampler):
    """A quasi-random sequence that draws the point `point_index`.

    Reason: Optuna counts points in the study's attributes, and has no public way to name one.
    """

    point_index = 0

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self.point_index


class _ScottParzenEstimator(_ParzenEstimator):
    """Densities of TPE whose kernels are as wide as Scott's rule says.

    Reason: Optuna reads the class from `TPESampler._parzen_estimator_cls`, and has no option for a width.
    """

    def _calculate_numerical_distributions(
        self, observations: np.ndarray, search_space: Any, parameters: Any
    ) -> Any:
        kernels: Any = super()._calculate_numerical_distributions(observations, search_space, parameters)
        # The last kernel is the prior's, as wide as the range on the scale on which kernels are normal.
        size, prior = len(observations), kernels.sigma[-1]
        share = scott_width(size, len(self._search_space))
        if parameters.consider_magic_clip:
            share = max(share, 1 / min(100, size + 2))
        return kernels._replace(sigma=np.append(np.full(size, share * prior), prior))


class ScottTPESampler(TPESampler):
    """A TPE whose kernels of numbers are as wide as Scott's rule says (Scott 1992, eq. 6.42).

    Optuna 4 drew parameters together so. In Optuna 5 a kernel reaches to the further of its two neighbours.
    Early stopping makes hundreds of trials, and the kernels of the many bad ones become narrow: the ratio of
    the two densities then says more about the gaps between trials than about regions.
    docs/contributing/upstream-notes.md has what that costs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parzen_estimator_cls = _ScottParzenEstimator


def scott_width(size: int, dimensions: int) -> float:
    """Return the standard deviation of a kernel, as a share of its parameter's range.

    Args:
        size: Number of trials that the density is made of.
        dimensions: Number of parameters that are drawn together, categoricals included.
    """
    return float(SCOTT_SCALE * max(size, 1) ** (-1 / (dimensions + 4)))


def draws_one_space(sampler: TPESampler, study: optuna.Study) -> bool:
    """Tell whether TPE draws all parameters that every trial has together.

    It does if it is multivariate, which depends on the study by default, and does not group parameters.
    """
    return not sampler._group and sampler._is_multivariate(study)


class StudyProxy(optuna.Study):
    """A study in everything but its trials, which a subclass lists.

    Reason: Samplers read trials through the private `Study._get_trials`. Making a second `Study` would read
    the storage, and a copy in memory of all trials would cost more than the draw.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.__dict__.update(study.__dict__)

    def list_trials(self, use_cache: bool) -> list[FrozenTrial]:
        """Return the trials to show.

        Args:
            use_cache: Whether trials that Optuna has read earlier in this draw will do.
        """
        return super()._get_trials(False, None, use_cache)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        found = [t for t in self.list_trials(use_cache) if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found
