"""Conversion of parameters to Optuna's distributions, and back."""

from __future__ import annotations

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from otter_ray.space import Parameter, SearchProblem, Space, StudyOptions
from otter_ray.study.trials import direction_of


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """Return the distribution that Optuna records when `parameter.suggest` draws a value."""
    if parameter.type == "categorical":
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds()
    if parameter.type == "int":
        return IntDistribution(int(low), int(high), log=parameter.log, step=int(parameter.step or 1))
    return FloatDistribution(low, high, log=parameter.log, step=parameter.step)


def to_parameter(name: str, distribution: BaseDistribution) -> Parameter:
    """Return a parameter under the key `name` that `to_distribution` turns into this distribution.

    Conditions and further keys are not part of a distribution.
    """
    if isinstance(distribution, CategoricalDistribution):
        return Parameter(name, (name,), "categorical", choices=tuple(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    is_int = isinstance(distribution, IntDistribution)
    step = None if is_int and distribution.step == 1 else distribution.step
    low, high, log = distribution.low, distribution.high, distribution.log
    return Parameter(name, (name,), "int" if is_int else "float", low, high, step, log)


def relative_search_space(problem: SearchProblem) -> dict[str, BaseDistribution]:
    """Return the parameters that every trial has and that have more than one value.

    Returns:
        Parameter name -> distribution.
    """
    found = {parameter.name: to_distribution(parameter) for parameter in problem.unconditional}
    return {name: distribution for name, distribution in found.items() if not distribution.single()}


def space_of(study: optuna.Study) -> Space:
    """Return the search space of any Optuna study whose parameters have config keys for names.

    If a parameter's range changed during the study, the last one counts. `space_to_yaml` writes it to a file.
    """
    last: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        last |= trial.distributions
    parameters = tuple(to_parameter(name, distribution) for name, distribution in last.items())
    return Space(study.study_name, parameters, StudyOptions(mode=direction_of(study).value))
