"""Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846), over trials that a journal knows.

Ray's own changes a trial's values and weights in place, from Tune's checkpoints, and refuses searchers. Here
a trial keeps its values. One of the worst trials is stopped, and a new trial takes its place. The new trial
starts from the checkpoint of one of the best trials, its parent, with changed values. So a trial's values and
its curve belong together. The `schedule` among its values says what its weights were trained with before, and
a run of its config repeats that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from otter_ray.config.config import CHANGEABLE
from otter_ray.config.paths import overlap
from otter_ray.space import SearchProblem
from otter_ray.space.compatibility import retunable
from otter_ray.space.scheduler_options import PBT
from otter_ray.study.optuna_compat import read_trial
from otter_ray.study.schema import SCHEDULE, VALUES
from otter_ray.study.trials import direction_of, values_after
from otter_ray.tune.samplers.seeded import seed_sequence

MAX_TRIES = 20  # to find values that no trial has


@dataclass(frozen=True)
class Copy:
    """A new trial that starts from another trial's checkpoint.

    Attributes:
        parent: Number of that trial.
        params: By the parameters' names.
        values: By dotted key, the schedule among them.
    """

    parent: int
    params: dict[str, Any]
    values: dict[str, Any]


@dataclass(frozen=True)
class Population:
    """The trials of a study, compared with each other after the same epoch.

    Attributes:
        study: The truth about the trials.
        problem: What is searched, and around which config.
        options: Of the scheduler.
        metric: By which trials are compared.
        is_kept: Tells whether the checkpoint of (trial, epoch) is there to start from.
    """

    study: optuna.Study
    problem: SearchProblem
    options: PBT
    metric: str
    is_kept: Callable[[int, int], bool]

    def parents_for(self, number: int, epoch: int, value: float) -> list[int]:
        """Return trials one of which is to be copied in place of a trial with this value.

        If the trial is in the worst quantile, these are the trials of the best quantile that are better than
        it (Ray's `_quantiles`). Otherwise there are none, and the trial goes on.

        Args:
            number: Of the trial.
            epoch: That it has just ended.
            value: Of the metric, after that epoch.
        """
        options = self.options
        if epoch < options.grace_period or epoch % options.perturbation_interval:
            return []
        others = values_after(self.study, epoch, self.metric)
        if others.pop(number, None) is not None:
            return []  # this was decided when the value came
        count = len(others) + 1
        size = min(math.ceil(count * options.quantile_fraction), count // 2)
        sign = direction_of(self.study).sign
        best = sorted(others, key=lambda other: (-sign * others[other], other))
        if not size or value * sign > sign * others[best[-size]]:
            return []
        return [n for n in best[:size] if sign * others[n] > sign * value and self.is_kept(n, epoch)]

    def copy(self, number: int, epoch: int, parents: Sequence[int]) -> Copy | None:
        """Return what takes a trial's place; None if no parent has anything to change.

        Args:
            number: Of the trial that is stopped.
            epoch: After which it is.
            parents: As `parents_for` returns them.
        """
        draw = np.random.default_rng(
            seed_sequence(self.problem.config.common.seed, number, f"{SCHEDULE} {epoch}")
        )
        existing = [trial.user_attrs.get(VALUES) for trial in self.study.get_trials(deepcopy=False)]
        for _ in range(MAX_TRIES):
            copy = self._copy(int(draw.choice(parents)), epoch, draw)
            # With the same weights, values and seed it would be trained to the same end.
            if copy is not None and copy.values not in existing:
                return copy
        return None

    def _copy(self, parent: int, epoch: int, draw: np.random.Generator) -> Copy | None:
        values = dict(read_trial(self.study, parent).user_attrs[VALUES])
        space, config = self.problem.space, self.problem.config.with_values(values)
        params = space.base_values(config)
        free = {parameter.name for parameter in retunable(space)} & params.keys()
        if not free:
            return None
        perturbed = _Perturbed(params, free, self.options, draw)
        changed = space.suggest(perturbed, config, names=params)
        then = {key: config.get(key) for key in changed if overlap(key, CHANGEABLE)}
        schedule = [*values.get(SCHEDULE, []), {"epochs": epoch, "values": then}]
        return Copy(parent, perturbed.params, {**values, **changed, SCHEDULE: schedule})


@dataclass
class _Perturbed:
    """Return a parent's parameters as if an Optuna trial drew them, the free ones perturbed.

    A number is multiplied by a factor, a choice moves to its neighbour, and both are redrawn now and then, as
    in Ray's `_explore`. Unlike there, a number stays within its bounds.
    """

    params: dict[str, Any]
    free: set[str]
    options: PBT
    draw: np.random.Generator = field(repr=False)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name in self.free:
            if self.draw.random() < self.options.resample_probability:
                low_, high_ = (math.log(low), math.log(high)) if log else (low, high)
                value = self.draw.uniform(low_, high_)
                value = math.exp(value) if log else value
            else:
                value = self.params[name] * self.draw.choice(self.options.perturbation_factors)
            if step is not None:
                value = low + round((value - low) / step) * step
            self.params[name] = float(min(max(value, low), high))
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if name in self.free:
            self.params[name] = int(self.suggest_float(name, low, high, step=step, log=log))
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self.free:
            index = choices.index(self.params[name])
            if self.draw.random() < self.options.resample_probability:
                index = int(self.draw.integers(len(choices)))
            else:
                index = min(max(index + int(self.draw.choice([-1, 1])), 0), len(choices) - 1)
            self.params[name] = choices[index]
        return self.params[name]
