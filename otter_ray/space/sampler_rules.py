"""Refuse what a sampler cannot search: Optuna would draw at random instead, and say little."""

from __future__ import annotations

from collections.abc import Iterator

from otter_ray.errors import Problem
from otter_ray.space.grid import MAX_POINTS, grid_size
from otter_ray.space.parameter import Parameter
from otter_ray.space.problem import SearchProblem
from otter_ray.space.samplers import samplers_with


def sampler_problems(problem: SearchProblem) -> Iterator[Problem]:
    """Yield what in the space the study's sampler does not search."""
    space, sampler = problem.space, problem.options.sampler
    name, capabilities = sampler.name, sampler.capabilities
    if not capabilities.conditions and (conditional := space.conditional()):
        message = (
            f"{name} does not support conditions (`when:`): {_named(conditional)} would be drawn at random."
        )
        others = " or ".join(samplers_with(conditions=True))
        remedy = f"Choose {others}, or remove each `when:` that asks for a searched key."
        yield space.problem("study.sampler.name", f"{message} {remedy}")
    if not capabilities.categoricals and (fixed := [p for p in space.parameters if len(p.choices) > 1]):
        message = f"{name} supports numeric parameters only: {_named(fixed)} would be drawn at random."
        *first, last = samplers_with(categoricals=True, learns=True)
        remedy = f"Choose {', '.join(first)} or {last}, or remove the categoricals."
        yield space.problem("study.sampler.name", f"{message} {remedy}")
    if capabilities.exhaustive and not space.conditional():
        yield from _grid_problems(problem)


def _grid_problems(problem: SearchProblem) -> Iterator[Problem]:
    endless = [parameter for parameter in problem.unconditional if grid_size([parameter]) is None]
    for parameter in endless:
        way = "list its values as `choices` of a categorical" if parameter.log else "give it a `step`"
        message = f"has infinitely many values, but study.sampler is GridSampler. Either {way}"
        yield parameter.problem(f"{message}, or choose QMCSampler or RandomSampler.")
    size = 0 if endless else grid_size(problem.unconditional)
    if size and size > MAX_POINTS:
        message = f"is GridSampler, and the grid has {size} points, but at most {MAX_POINTS} are allowed."
        remedy = "Use larger steps, or choose QMCSampler or RandomSampler."
        yield problem.space.problem("study.sampler.name", f"{message} {remedy}")


def _named(parameters: list[Parameter]) -> str:
    names = [parameter.name for parameter in parameters[:3]]
    return ", ".join(names) + (f" and {len(parameters) - 3} more" if len(parameters) > 3 else "")
