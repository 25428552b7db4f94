"""What a sampler cannot do in fact, refused: Optuna would draw at random instead, and say little."""

from __future__ import annotations

from collections.abc import Iterator

from otter_ray.config.grid import MAX_POINTS, grid_size
from otter_ray.config.model import Config
from otter_ray.config.parameter import Parameter
from otter_ray.config.space import Space
from otter_ray.errors import Problem

# Every other one draws all parameters together, and those that a trial may lack apart from them, at random.
WITH_CONDITIONS = ("TPESampler", "RandomSampler")


def sampler_problems(space: Space, config: Config) -> Iterator[Problem]:
    """What in the space the study's sampler does not search."""
    name = space.study.sampler.name
    if name not in WITH_CONDITIONS and (waiting := space.conditional()):
        message = f"is {name}, which cannot do conditions: {_named(waiting)} would be drawn at random."
        remedy = f"Choose {' or '.join(WITH_CONDITIONS)}, or take the `when:` on searched keys away."
        yield space.problem("study.sampler.name", f"{message} {remedy}")
    if name == "CmaEsSampler" and (fixed := [p for p in space.parameters if len(p.choices) > 1]):
        message = f"is {name}, which moves numbers alone: {_named(fixed)} would be drawn at random."
        remedy = "Choose TPESampler, GPSampler or NSGAIISampler, or leave categoricals out."
        yield space.problem("study.sampler.name", f"{message} {remedy}")
    if name == "GridSampler" and not space.conditional():
        yield from _grid_problems(space, config)


def _grid_problems(space: Space, config: Config) -> Iterator[Problem]:
    endless = [parameter for parameter in space.unconditional(config) if grid_size([parameter]) is None]
    for parameter in endless:
        way = "list its values as `choices` of a categorical" if parameter.log else "give it a `step`"
        message = f"has no end of values, and study.sampler is GridSampler. Either {way}"
        yield parameter.problem(f"{message}, or choose QMCSampler or RandomSampler.")
    size = 0 if endless else grid_size(space.unconditional(config))
    if size and size > MAX_POINTS:
        message = f"is GridSampler, and the grid has {size} points; it may have {MAX_POINTS}."
        remedy = "Take larger steps, or choose QMCSampler or RandomSampler."
        yield space.problem("study.sampler.name", f"{message} {remedy}")


def _named(parameters: list[Parameter]) -> str:
    names = [parameter.name for parameter in parameters[:3]]
    return ", ".join(names) + (f" and {len(parameters) - 3} more" if len(parameters) > 3 else "")
