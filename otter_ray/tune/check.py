"""Everything that can be known to be wrong with a study before it starts."""

from __future__ import annotations

from dataclasses import replace

import torch

from otter_ray.config import Config, Space, check_space
from otter_ray.errors import ConfigError, Problem
from otter_ray.train.builders import available_cpus
from otter_ray.train.check import ACCELERATORS_WITH_GPU, Checker, metric_problem
from otter_ray.tune.plan import Node
from otter_ray.tune.sampler import build_sampler


def check_study(config: Config, space: Space, gpus: float, starts: bool = True) -> None:
    """Checks the base config and every branch of the space, down to the classes' signatures.

    Args:
        gpus: that the machines have.
        starts: False where the study goes on.

    Raises:
        ConfigError: every problem found, each once.
    """
    problems = [*check_space(space, config), *_gpu_share(config, space), *_searches_its_length(space)]
    if problems:
        raise ConfigError(problems)
    build_sampler(space.study, config.common.seed)
    checker = Checker(gpus, starts)
    problems = checker.problems(config)
    if not problems:
        if message := metric_problem(config, space.study.metric):
            raise ConfigError([space.problem("study.metric", message)])
        for values in space.branches(config):
            problems += [
                _in_space(problem, space, values) for problem in checker.problems(config.with_values(values))
            ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _searches_its_length(space: Space) -> list[Problem]:
    message = "cannot be searched: ASHA's rungs are epochs, and a trial of another length has others."
    return [
        parameter.problem(message) for parameter in space.parameters if "trainer.max_epochs" in parameter.keys
    ]


def _gpu_share(config: Config, space: Space) -> list[Problem]:
    share = space.study.resources.gpus_per_worker
    if config.trainer.accelerator not in ACCELERATORS_WITH_GPU or share:
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
