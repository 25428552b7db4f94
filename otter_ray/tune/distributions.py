"""Parameters as Optuna's distributions, and back."""

from __future__ import annotations

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from otter_ray.config import Config, Parameter, Space, StudyOptions
from otter_ray.report.rows import mode_of


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """What a trial of Optuna's keeps of the parameter once `parameter.suggest` has asked it."""
    if parameter.type == "categorical":
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds()
    if parameter.type == "int":
        return IntDistribution(int(low), int(high), log=parameter.log, step=int(parameter.step or 1))
    return FloatDistribution(low, high, log=parameter.log, step=parameter.step)


def to_parameter(name: str, distribution: BaseDistribution) -> Parameter:
    """The parameter under the key `name`; `to_distribution` gives the distribution back.

    Conditions and further keys are no part of a distribution.
    """
    if isinstance(distribution, CategoricalDistribution):
        return Parameter(name, (name,), "categorical", choices=tuple(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    is_int = isinstance(distribution, IntDistribution)
    step = None if is_int and distribution.step == 1 else distribution.step
    low, high, log = distribution.low, distribution.high, distribution.log
    return Parameter(name, (name,), "int" if is_int else "float", low, high, step, log)


def searched_together(space: Space, config: Config) -> dict[str, BaseDistribution]:
    """Parameter name -> distribution, of those that each trial has and that have more than one value."""
    found = {parameter.name: to_distribution(parameter) for parameter in space.unconditional(config)}
    return {name: distribution for name, distribution in found.items() if not distribution.single()}


def space_of(study: optuna.Study) -> Space:
    """The search space of any Optuna study whose parameters have config keys for names.

    Where a parameter's range changed on the way, the last one counts. `space_to_yaml` writes it down.
    """
    last: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        last |= trial.distributions
    parameters = tuple(to_parameter(name, distribution) for name, distribution in last.items())
    return Space(study.study_name, parameters, StudyOptions(mode=mode_of(study)))
