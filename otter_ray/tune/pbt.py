"""Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846), over trials that a journal knows.

Ray's own changes a trial's values and weights in place, from Tune's checkpoints, and refuses searchers. Here
a trial keeps its values: one of the worst is stopped, and a new trial takes its place, which begins at one of
the best's checkpoint with changed values. So a trial's values and its curve belong together, and the
`schedule` among its values says what its weights were trained with before: its config repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from otter_ray.config import Config, Space
from otter_ray.config.model import RETUNED
from otter_ray.config.paths import overlap
from otter_ray.config.scheduler import PBT
from otter_ray.config.space_check import retuned_in
from otter_ray.report.rows import CONFIG, CURVE, is_feasible, mode_of, read_trial
from otter_ray.tune.keys import SCHEDULE, VALUES
from otter_ray.tune.sampler import numbers_of

TRIES = 20  # to find values that no trial has


@dataclass(frozen=True)
class Copy:
    """A new trial that begins where another one, its donor, was.

    Attributes:
        params: by the parameters' names.
        values: by dotted key, the schedule among them.
    """

    donor: int
    params: dict[str, Any]
    values: dict[str, Any]


@dataclass(frozen=True)
class Population:
    """The trials of a study, compared with each other after the same epoch.

    Args:
        metric: that they are compared by.
        is_kept: whether the checkpoint of (trial, epoch) is there to begin from.
    """

    study: optuna.Study
    space: Space
    config: Config
    options: PBT
    metric: str
    is_kept: Callable[[int, int], bool]

    def better(self, number: int, epoch: int, value: float) -> list[int]:
        """Trials one of which is to take the place of a trial with this value; none: it goes on.

        Those in the best quantile that are better than it, if it is in the worst (Ray's `_quantiles`).
        """
        options = self.options
        if epoch < options.grace_period or epoch % options.perturbation_interval:
            return []
        others = values_after(self.study, epoch, self.metric)
        if others.pop(number, None) is not None:
            return []  # it was decided when the value came
        count = len(others) + 1
        size = min(math.ceil(count * options.quantile_fraction), count // 2)
        sign = 1.0 if mode_of(self.study) == "max" else -1.0
        best = sorted(others, key=lambda other: (-sign * others[other], other))
        if not size or value * sign > sign * others[best[-size]]:
            return []
        return [n for n in best[:size] if sign * others[n] > sign * value and self.is_kept(n, epoch)]

    def copy(self, number: int, epoch: int, donors: Sequence[int]) -> Copy | None:
        """What takes a trial's place; None where none of the donors has anything to change."""
        draw = np.random.default_rng(numbers_of(self.config.common.seed, number, f"{SCHEDULE} {epoch}"))
        there = [trial.user_attrs.get(VALUES) for trial in self.study.get_trials(deepcopy=False)]
        for _ in range(TRIES):
            copy = self._copy(int(draw.choice(donors)), epoch, draw)
            # With the same weights, values and seed it would be trained to the same end.
            if copy is not None and copy.values not in there:
                return copy
        return None

    def _copy(self, donor: int, epoch: int, draw: np.random.Generator) -> Copy | None:
        values = dict(read_trial(self.study, donor).user_attrs[VALUES])
        config = self.config.with_values(values)
        params = self.space.base_values(config)
        free = {parameter.name for parameter in retuned_in(self.space)} & params.keys()
        if not free:
            return None
        perturbed = _Perturbed(params, free, self.options, draw)
        changed = self.space.suggest(perturbed, config, names=params)
        then = {key: config.get(key) for key in changed if overlap(key, RETUNED)}
        schedule = [*values.get(SCHEDULE, []), {"epochs": epoch, "values": then}]
        return Copy(donor, perturbed.params, {**values, **changed, SCHEDULE: schedule})


def values_after(study: optuna.Study, epoch: int, metric: str) -> dict[int, float]:
    """What the trials that may be compared had after an epoch, by number.

    A trial that cannot win gives nobody its weights, nor does one that ran with another config.
    """
    return {
        trial.number: float(
            trial.user_attrs.get(CURVE + str(epoch), {}).get(metric, trial.intermediate_values[epoch])
        )
        for trial in study.get_trials(deepcopy=False)
        if epoch in trial.intermediate_values
        and trial.state != TrialState.FAIL
        and is_feasible(trial)
        and CONFIG not in trial.user_attrs
    }


@dataclass
class _Perturbed:
    """Gives a donor's parameters as if an Optuna trial drew them, the free ones of them perturbed.

    A number is multiplied by a factor, a choice moves to its neighbour, and either is drawn anew now and
    then, as Ray's `_explore` does it. Unlike there a number stays within its bounds.
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
