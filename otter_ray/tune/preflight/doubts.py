"""Find what a study can be started with, and what is hardly meant."""

from __future__ import annotations

from collections.abc import Iterator

from otter_ray.errors import Problem
from otter_ray.space import SearchProblem
from otter_ray.train.model.declared_metrics import best_direction


def doubts(problem: SearchProblem) -> Iterator[Problem]:
    """Yield what is hardly meant, for warnings.

    Args:
        problem: Resolved, and without faults.
    """
    yield from _other_direction(problem)
    yield from _files_that_are_not_made(problem)


def _other_direction(problem: SearchProblem) -> Iterator[Problem]:
    metric, asked = problem.options.metric, problem.options.direction
    best = best_direction(problem.config, metric)
    if best not in (None, asked):
        better = {"max": "larger", "min": "smaller"}[str(best)]
        message = (
            f"is {asked}, but {better} values of {metric} are better: the search looks for the worst model. "
            f"Set it to {best}."
        )
        yield problem.space.problem("study.mode", message)


def _files_that_are_not_made(problem: SearchProblem) -> Iterator[Problem]:
    """Yield the statistics of files of a precision that the config does not ask for."""
    options, quantize = problem.options, problem.config.quantize
    made = quantize.wanted if quantize else []
    stats = {
        "study.constraints": [bound.stat for bound in options.bounds],
        "study.objectives": options.objectives,
    }
    asked = [(key, name, name.partition("@")[2]) for key, names in stats.items() for name in names]
    missing = [(key, name, precision) for key, name, precision in asked if precision not in ("", *made)]
    needed = ", ".join(dict.fromkeys([*made, *(precision for *_, precision in missing)]))
    for key, name, _ in missing:
        if "quantize" in type(problem.config).model_fields:
            fix = f"Set quantize: {{do_quant: true, precisions: [{needed}]}} in the config."
        else:
            fix = f"project: {problem.config.project} makes fp32 files only. Remove it from {key}."
        message = f"{name} is about a file that the study does not make. {fix}"
        yield problem.space.problem(key, message)
