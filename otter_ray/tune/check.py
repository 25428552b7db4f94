"""Everything that can be known to be wrong with a study before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import get_args

import torch

from otter_ray.config import FIGURES, Config, Space
from otter_ray.config.paths import overlap
from otter_ray.config.study import SamplerName
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.train.check import ACCELERATORS_WITH_GPU, Checker, metric_problem, unlogged
from otter_ray.train.components import find_class
from otter_ray.train.cpus import available_cpus
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.plan import Node
from otter_ray.tune.sampler import build_sampler, option_problems

# The samplers of Optuna 5 that know one objective alone.
ONE_OBJECTIVE = ("CmaEsSampler",)


def with_steady_scheduler(space: Space, config: Config) -> Space:
    """The space whose scheduler, where none is named, looks at what the model knows to be steady early."""
    study = space.study
    if "name" in study.scheduler.model_fields_set or study.scheduler.metric is not None:
        return space
    with suppress(LookupError):  # an unknown model is told by `check_study`
        cls = find_class(config.model.name, "model", config.project)
        metric = getattr(cls, "STEADIER", {}).get(study.metric)
        scheduler = study.scheduler.model_copy(update={"metric": metric})
        return replace(space, study=study.model_copy(update={"scheduler": scheduler}))
    return space


def check_study(config: Config, space: Space, gpus: float, starts: bool = True) -> None:
    """Checks the base config and every branch of a space that `check_space` has passed, down to signatures.

    Args:
        gpus: that the machines have.
        starts: False where the study goes on.

    Raises:
        ConfigError: every problem found, each once.
    """
    problems = [
        *option_problems(space),
        *_unable_sampler(space),
        *_gpu_share(config, space),
        *_searches_what_it_may_not(space),
    ]
    if problems:
        raise ConfigError(problems)
    build_sampler(space.study, config.common.seed, searched_together(space, config))
    checker = Checker(gpus, starts)
    problems = checker.problems(config)
    if not problems:
        if message := metric_problem(config, space.study.metric):
            raise ConfigError([space.problem("study.metric", message)])
        if message := unlogged(config, space.study.scheduler.metric or space.study.metric):
            raise ConfigError([space.problem("study.scheduler.metric", message)])
        if problems := [*_objectives(config, space)]:
            raise ConfigError(problems)
        for values in space.branches(config):
            problems += [
                _in_space(problem, space, values) for problem in checker.problems(config.with_values(values))
            ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _unable_sampler(space: Space) -> Iterator[Problem]:
    """Samplers that raise in a study with several objectives (Optuna's `_raise_error_if_multi_objective`).

    And the grid under constraints: points that violate one are no trials, so it would run out of points.
    """
    name = space.study.sampler.name
    if space.study.constraints and name == "GridSampler":
        message = "GridSampler goes over all points, but study.constraints leave some of them out."
        yield space.problem("study.sampler.name", f"{message} Take RandomSampler, or drop them.")
    if space.study.objectives and name in ONE_OBJECTIVE:
        able = [other for other in get_args(get_args(SamplerName)[0]) if other not in ONE_OBJECTIVE]
        message = f"{name} can search for one objective, not {1 + len(space.study.objectives)}."
        yield space.problem("study.sampler.name", f"{message} Take {' or '.join(able)}, or drop objectives.")


def _objectives(config: Config, space: Space) -> Iterator[Problem]:
    metric = space.study.metric
    for name in space.study.objectives:
        if name == metric:
            message = "is the study's metric, the first objective anyway. Remove it here."
            yield space.problem(f"study.objectives.{name}", message)
        elif name not in FIGURES and (rule := unlogged(config, name)):
            message = f"{rule}{did_you_mean(name, FIGURES)} Or a figure of the model: {', '.join(FIGURES)}."
            yield space.problem(f"study.objectives.{name}", message)


def _searches_what_it_may_not(space: Space) -> list[Problem]:
    rules = {
        "trainer.max_epochs": "ASHA's rungs are epochs, and a trial of another length has others.",
        "dataset.test_options": "a test split is for the one model that the search ends with.",
    }
    return [
        parameter.problem(f"cannot be searched: {rule}")
        for parameter in space.parameters
        for key, rule in rules.items()
        if any(overlap(key, searched) for searched in parameter.keys)
    ]


def _gpu_share(config: Config, space: Space) -> list[Problem]:
    share = space.study.resources.gpus_per_worker
    if config.trainer.accelerator not in ACCELERATORS_WITH_GPU or share != 0:
        return []
    message = (
        f"{config.trainer.accelerator!r} but study.resources.gpus_per_worker is 0: a trial would see no GPU. "
        "Give it a share (0.5: two trials on one), or set the accelerator to auto or cpu."
    )
    return [config.problem("trainer.accelerator", message)]


def _in_space(problem: Problem, space: Space, values: dict[str, object]) -> Problem:
    """The problem at the parameter's line in the space's file, where a parameter is to blame."""
    for parameter in space.parameters:
        if problem.key in parameter.keys:
            whose = "" if parameter.name == problem.key else f"{problem.key}: "
            return parameter.problem(whose + problem.message)
    where = ", ".join(f"{key}={value}" for key, value in values.items())
    return replace(problem, message=f"{problem.message} This is so where the space sets {where}.")


def local_node() -> Node:
    """What this machine would offer to a Ray of its own."""
    return Node(available_cpus(), torch.cuda.device_count())
