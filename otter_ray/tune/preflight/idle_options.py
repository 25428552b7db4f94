"""Find searched options of the model that change nothing in it, such as one that the model overrides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import isroutine
from typing import Any

import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.config.paths import overlap
from otter_ray.errors import OtterError, Problem
from otter_ray.export.model_stats import untrained_model
from otter_ray.space import Branch, Parameter, SearchProblem

# Sections whose options become parts of the model when it is built.
PARTS = ("model.backbone", "model.neck", "model.head", "model.loss")
# Which weights a model starts from cannot be seen in the model.
UNSEEN = "model.backbone.options.pretrained"
MAX_DEPTH = 4  # of what is in an attribute
OPAQUE = (nn.Module, torch.Tensor, Config)  # seen elsewhere, or no part of what the model does
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size, type)


def idle_options(problem: SearchProblem) -> Iterator[Problem]:
    """Yield the parameters that set options of the model, but leave the model as it is.

    Models are built without memory for their weights, and not run.

    Args:
        problem: Free of what `check_study` finds.
    """
    branches: dict[Parameter, Branch] = {}
    for branch in problem.branches:
        for parameter in branch.assignment:
            branches.setdefault(parameter, branch)
    for parameter, branch in branches.items():
        corners = parameter.corners()
        if len(corners) < 2 or not all(_is_an_option(key) for key in parameter.keys):
            continue
        try:
            first, other = (
                _appearance(problem.config.with_values(branch.values | dict.fromkeys(parameter.keys, value)))
                for value in (corners[0], corners[-1])
            )
        except (OtterError, RuntimeError, TypeError, ValueError):
            continue  # not every combination with this branch is a model
        if first == other:
            yield parameter.problem(
                f"seems to change nothing: the model is the same with {corners[0]} and with {corners[-1]}. "
                "Check that the model uses it, or remove it from the search."
            )


def _is_an_option(key: str) -> bool:
    return any(overlap(key, part) for part in PARTS) and not key.endswith(".name") and key != UNSEEN


def _appearance(config: Config) -> list[Any]:
    """Return what can be seen in the config's model: its modules, their weights' shapes and attributes."""
    with torch.device("meta"):
        model = untrained_model(config)
    return [
        (name, type(module), module.extra_repr(), _shapes(module), _seen(_attributes(module)))
        for name, module in model.named_modules()
    ]


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size, bool]]:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(name, tensor.shape, tensor.requires_grad) for name, tensor in own]


def _attributes(module: nn.Module) -> dict[str, Any]:
    # Hooks are numbered in the order in which a process registers them.
    return {name: value for name, value in vars(module).items() if "_hooks" not in name}


def _seen(value: Any, depth: int = 0) -> Any:
    """Return a value in a form that equals that of another one which behaves in the same way."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, OPAQUE) or depth > MAX_DEPTH:
        return type(value)
    if isinstance(value, dict):
        return {key: _seen(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_seen(item, depth + 1) for item in value]
    return type(value), _seen(_content(value), depth + 1)


def _content(value: object) -> Any:
    """Return what tells an object from others of its type."""
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isroutine(value):
        cells = getattr(value, "__closure__", None) or ()
        return [value.__qualname__, *(cell.cell_contents for cell in cells)]
    return getattr(value, "__dict__", {})
