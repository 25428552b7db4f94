"""Check what can be wrong with a study before anything is built or read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from otter_ray.config.paths import overlap
from otter_ray.config.schema import GPU_ACCELERATORS
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.space import MODEL_STATS, Branch, SearchProblem, Space
from otter_ray.space.samplers import samplers_with
from otter_ray.train.checks.validation import Checker
from otter_ray.train.model.declared_metrics import first_score, metric_problem, unlogged
from otter_ray.train.registry import find_class
from otter_ray.tune.samplers.factory import build_sampler, option_problems


def resolve(problem: SearchProblem) -> SearchProblem:
    """Return the problem as it is searched, with the model's first score and proxy metrics (`STEADIER`).

    An unknown model has none; `check_study` reports it.

    Raises:
        ConfigError: The space names no metric, and the model declares none.
    """
    config, metric, model = problem.config, problem.options.metric, None
    with suppress(LookupError):
        metric = metric or _first_score(problem)
        model = find_class(config.model.name, "model", config.project)
    return problem.resolved(getattr(model, "STEADIER", {}), metric)


def _first_score(problem: SearchProblem) -> str:
    try:
        return first_score(problem.config)
    except ConfigError as exc:
        raise ConfigError([problem.space.problem("study.metric", exc.problems[0].message)]) from exc


def check_study(problem: SearchProblem, gpus: float, starts: bool = True) -> None:
    """Check the base config and every branch, down to signatures.

    Args:
        problem: Resolved, and free of what `check_space` finds.
        gpus: That the machines have.
        starts: False if the study is resumed.

    Raises:
        ConfigError: Every fault found, each once.
    """
    config, space = problem.config, problem.space
    faults = [
        *option_problems(space),
        *_unable_sampler(space),
        *_gpu_share(problem),
        *_not_searchable(space),
    ]
    if faults:
        raise ConfigError(faults)
    build_sampler(problem)
    checker = Checker(gpus, starts)
    if faults := checker.problems(config):
        raise ConfigError(list(dict.fromkeys(faults)))
    if message := metric_problem(config, space.study.metric):
        raise ConfigError([space.problem("study.metric", message)])
    if message := unlogged(config, space.study.scheduler_metric):
        raise ConfigError([space.problem("study.scheduler.metric", message)])
    if faults := [*_objectives(problem)]:
        raise ConfigError(faults)
    found = (
        in_space(fault, space, branch)
        for branch in problem.branches
        for fault in checker.problems(branch.config)
    )
    if faults := list(dict.fromkeys(found)):
        raise ConfigError(faults)


def _unable_sampler(space: Space) -> Iterator[Problem]:
    """Yield the faults of samplers that cannot search this space.

    Some raise in a study with several objectives (Optuna's `_raise_error_if_multi_objective`). A grid would
    run out of points under constraints, because points that violate one are not trials.
    """
    sampler = space.study.sampler
    if space.study.constraints and sampler.capabilities.exhaustive:
        message = f"{sampler.name} goes over all points, but study.constraints leave some of them out."
        yield space.problem(
            "study.sampler.name", f"{message} Choose RandomSampler, or remove the constraints."
        )
    if space.study.objectives and not sampler.capabilities.multi_objective:
        able = " or ".join(samplers_with(multi_objective=True))
        message = f"{sampler.name} can search for one objective, not {1 + len(space.study.objectives)}."
        yield space.problem("study.sampler.name", f"{message} Choose {able}, or remove the objectives.")


def _objectives(problem: SearchProblem) -> Iterator[Problem]:
    config, space, metric = problem.config, problem.space, problem.options.metric
    for name in space.study.objectives:
        if name == metric:
            message = "is the study's metric, the first objective anyway. Remove it here."
            yield space.problem(f"study.objectives.{name}", message)
        elif name not in MODEL_STATS and (rule := unlogged(config, name)):
            message = (
                f"{rule}{did_you_mean(name, MODEL_STATS)} Or use a model statistic: {', '.join(MODEL_STATS)}."
            )
            yield space.problem(f"study.objectives.{name}", message)


def _not_searchable(space: Space) -> list[Problem]:
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


def _gpu_share(problem: SearchProblem) -> list[Problem]:
    config, share = problem.config, problem.options.resources.gpus_per_worker
    if config.trainer.accelerator not in GPU_ACCELERATORS or share != 0:
        return []
    message = (
        f"{config.trainer.accelerator!r} but study.resources.gpus_per_worker is 0: a trial would see no GPU. "
        "Give it a share (0.5 runs two trials on one GPU), or set the accelerator to auto or cpu."
    )
    return [config.problem("trainer.accelerator", message)]


def in_space(fault: Problem, space: Space, branch: Branch) -> Problem:
    """Return the fault at the parameter's line in the space's file, if a parameter is to blame.

    Args:
        fault: of the branch's config.
        space: with the parameters.
        branch: of the space.
    """
    for parameter in space.parameters:
        if fault.key in parameter.keys:
            whose = "" if parameter.name == fault.key else f"{fault.key}: "
            return parameter.problem(whose + fault.message)
    values = ", ".join(f"{key}={value}" for key, value in branch.values.items())
    return replace(fault, message=f"{fault.message} This happens if the space sets {values}.")
