"""Every backbone, head and loss that a space reaches, tried once before the first hour is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from otter_ray.cli import tell
from otter_ray.config import Config, Parameter, Space
from otter_ray.errors import ConfigError, OtterError, Problem
from otter_ray.export.figures import architecture, fresh_model
from otter_ray.export.onnx_file import example_inputs, onnx_section
from otter_ray.tune.figures import SHAPING, FigureBook, digest, measure_first, one_thread

BATCH = 2  # the least that BatchNorm trains on
# What only says that this machine, where the driver runs, is not one that trials run on.
ELSEWHERE = ("cuda", "nvidia", "allocate memory", "out of memory")
Values = dict[Parameter, Any]


@dataclass
class _Tried:
    """One architecture with one loss: a config that has it, the branches that do, and what went wrong."""

    config: Config
    branches: list[Values] = field(default_factory=list)
    error: str = ""


def preflight(config: Config, space: Space, book: FigureBook, console: Console) -> None:
    """Builds each model, pushes a batch through it and its loss and back, exports it and runs the file.

    What the book has tried is left out. Weights are random, and made up are the labels, so that it costs
    neither data nor downloads.

    Raises:
        ConfigError: what fails, each at its parameter's line.
    """
    started = time.perf_counter()
    every = _reached(config, space)
    new = {key: tried for key, tried in every.items() if key not in book.tried}
    with one_thread():
        for count, tried in enumerate(new.values()):
            if count and count % 10 == 0:
                console.print(f"pre-flight: {count} of {len(new)} models")
            tried.error, note = _try(tried.config, book)
            if note:
                tell(console, f"warning: pre-flight could not try everything here: {note}", style="yellow")
    if problems := _problems(config, [*every.values()]):
        raise ConfigError(problems)
    measure_first(config, space, book)
    if new:
        book.keep([*new])
        seconds = time.perf_counter() - started
        console.print(f"pre-flight: {_counted(new.values())}, all exportable ({seconds:.1f} s)")


def _counted(tried: Any) -> str:
    count = len(list(tried))
    return f"{count} model{'s' * (count != 1)}"


def _reached(config: Config, space: Space) -> dict[str, _Tried]:
    """What the base config and the space's branches have, each once, under a short name."""
    found: dict[str, _Tried] = {}
    for values in ({}, *space.assignments(config)):
        named: Values = values
        branch = config.with_values({key: value for p, value in named.items() for key in p.keys})
        key = digest(f"{architecture(branch)} {branch.model.loss.name}")
        found.setdefault(key, _Tried(branch)).branches.append(named)
    return found


def _try(config: Config, book: FigureBook) -> tuple[str, str]:
    """(what goes wrong, what only this machine cannot do); empty if nothing is."""
    stage = "be built"
    try:
        model = fresh_model(config)
        stage = "be exported"
        book.of(config, model)
        stage = "take a training step"
        inputs = example_inputs(onnx_section(config), BATCH)
        model.train().pretend_loss(*inputs.values()).backward()  # type: ignore[no-untyped-call]
    except OSError:
        raise
    except Exception as exc:
        text = str(exc) if isinstance(exc, OtterError) else f"{type(exc).__name__}: {exc}"
        is_elsewhere = stage == "take a training step" and any(word in text.lower() for word in ELSEWHERE)
        return ("", text.splitlines()[0]) if is_elsewhere else (f"cannot {stage}: {text.splitlines()[0]}", "")
    return "", ""


def _problems(config: Config, every: Sequence[_Tried]) -> list[Problem]:
    """One for each choice that fails wherever it stands, or for a combination where no single choice does."""
    works = {
        pair for tried in every if not tried.error for values in tried.branches for pair in _pairs(values)
    }
    base = next(tried for tried in every if {} in tried.branches)
    found = [config.problem("model", f"as it stands {base.error}. Mend it.")] if base.error else []
    for tried in every:
        if tried.error not in ("", base.error):
            for values in tried.branches:
                found += _blamed(values, works, tried.error)
    return list(dict.fromkeys(found))


def _blamed(values: Values, works: set[tuple[Parameter, Any]], error: str) -> Iterator[Problem]:
    shaping = [*_pairs(values)]
    guilty = [pair for pair in shaping if pair not in works]
    for parameter, value in guilty[:1] if guilty else ():
        yield parameter.problem(f"{value} {error}. Leave it out of the search, or mend it.")
    if not guilty and shaping:
        named = ", ".join(f"{parameter.name}={value}" for parameter, value in shaping)
        yield shaping[0][0].problem(f"{error}. This is so with {named}.")


def _pairs(values: Values) -> Iterator[tuple[Parameter, Any]]:
    """The choices that say what a model is."""
    for parameter, value in values.items():
        if any(key.startswith(SHAPING) for key in parameter.keys):
            yield parameter, value
