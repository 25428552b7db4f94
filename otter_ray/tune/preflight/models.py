"""Try every backbone, head and loss that a search space reaches before the first trial starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem, in_one_line
from otter_ray.export.architecture import architecture_key
from otter_ray.export.model_stats import measure_untrained, single_thread, untrained_model
from otter_ray.isolation import ProcessCrashError, run_isolated
from otter_ray.space import Parameter, SearchProblem
from otter_ray.space.space import Assignment
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.tune.constraints import (
    ARCHITECTURE_SECTIONS,
    ModelStatsCache,
    measure_latencies,
    short_digest,
)

logger = logging.getLogger(__name__)

BATCH = 2  # the smallest that BatchNorm trains on
# Words of errors that only say that trials run on another machine than this one, where the driver runs.
ELSEWHERE = ("cuda", "nvidia", "allocate memory", "out of memory")


class Stage(Enum):
    """What the pre-flight does with a model, in this order.

    Attributes:
        purpose: What the model cannot do if it raises here.
        moment: When its process died if it did here.
    """

    BUILD = "be built", "while it is built"
    EXPORT = "be exported", "while it is exported"
    FORWARD = "take a training step", "in its first forward pass"
    BACKWARD = "take a training step", "in its first backward pass"

    def __init__(self, purpose: str, moment: str) -> None:
        self.purpose, self.moment = purpose, moment


@dataclass
class _Model:
    """One architecture with one loss.

    Attributes:
        config: that has them.
        branches: of the space that have them.
        error: what went wrong; empty if nothing did.
    """

    config: Config
    branches: list[Assignment] = field(default_factory=list)
    error: str = ""


def preflight(problem: SearchProblem, cache: ModelStatsCache) -> None:
    """Build each model, train it on a batch for one step, export it and run the file.

    Each is tried in a process of its own: one whose operators corrupt memory ends that process.
    Models that the cache knows are left out. Weights are random and labels invented, so this needs neither
    data nor downloads.

    Args:
        problem: to be searched.
        cache: gets the statistics of the models.

    Raises:
        ConfigError: all models that fail, each at its parameter's line.
    """
    started = time.perf_counter()
    models = _models_of(problem)
    new = {key: model for key, model in models.items() if key not in cache.tried}
    with single_thread():
        for count, model in enumerate(new.values()):
            if count and count % 10 == 0:
                logger.info(f"pre-flight: {count} of {len(new)} models")
            model.error, note = _try(model.config, cache)
            if note:
                logger.warning(f"pre-flight could not try everything on this machine: {note}")
    if faults := _faults(problem.config, models.values()):
        raise ConfigError(faults)
    measure_latencies(problem, cache)
    if new:
        cache.save([*new])
        count, seconds = len(new), time.perf_counter() - started
        logger.info(f"pre-flight: {count} model{'s' * (count != 1)}, all exportable ({seconds:.1f} s)")


def _models_of(problem: SearchProblem) -> dict[str, _Model]:
    """Return the models of the base config and of the space's branches, each once, under a short name."""
    found: dict[str, _Model] = {}

    def add(config: Config, assignment: Assignment) -> None:
        key = short_digest(f"{architecture_key(config)} {config.model.loss.name}")
        found.setdefault(key, _Model(config)).branches.append(assignment)

    add(problem.config, {})
    for branch in problem.branches:
        add(branch.config, branch.assignment)
    return found


def _try(config: Config, cache: ModelStatsCache) -> tuple[str, str]:
    """Return (what goes wrong, what only this machine cannot do); empty if nothing is."""
    try:
        stats, error, note = run_isolated(partial(_fly, config, cache))
    except ProcessCrashError as crash:
        return f"crashes the process {Stage[crash.stage].moment} ({crash.cause})", ""
    if stats:
        cache.add(config, stats)
    return error, note


def _fly(
    config: Config, cache: ModelStatsCache, enter: Callable[[str], None]
) -> tuple[dict[str, float], str, str]:
    """Return the model's statistics, and what `_try` returns. What it does next is told to `enter`."""
    stats: dict[str, float] = {}
    stage = Stage.BUILD

    def begin(new: Stage) -> None:
        nonlocal stage
        stage = new
        enter(stage.name)

    try:
        begin(Stage.BUILD)
        model = untrained_model(config)
        begin(Stage.EXPORT)
        stats = cache.known(config) or measure_untrained(config, cache.names, model)
        begin(Stage.FORWARD)
        loss = model.train().pretend_loss(*model_inputs(config, BATCH))
        begin(Stage.BACKWARD)
        loss.backward()  # type: ignore[no-untyped-call]
    except OSError:
        raise
    except Exception as exc:
        text, trains = in_one_line(exc), stage in (Stage.FORWARD, Stage.BACKWARD)
        if trains and any(word in str(exc).lower() for word in ELSEWHERE):
            return stats, "", text
        return stats, f"cannot {stage.purpose}: {text}", ""
    return stats, "", ""


def _faults(config: Config, models: Collection[_Model]) -> list[Problem]:
    """Return one fault for each choice that always fails, or for a combination of choices that fails."""
    works = {
        pair for model in models if not model.error for values in model.branches for pair in _pairs(values)
    }
    base = next(model for model in models if {} in model.branches)
    found = []
    if base.error:
        found.append(config.problem("model", f"the base config's model {base.error}"))
    for model in models:
        if model.error not in ("", base.error):
            for values in model.branches:
                found += _blamed(values, works, model.error)
    return list(dict.fromkeys(found))


def _blamed(values: Assignment, works: set[tuple[Parameter, Any]], error: str) -> Iterator[Problem]:
    """Yield the fault of the first choice that works in no model, or of the combination."""
    shaping = [*_pairs(values)]
    guilty = [pair for pair in shaping if pair not in works]
    error = error.removesuffix(".")
    for parameter, value in guilty[:1]:
        yield parameter.problem(f"{value} {error}. Remove it from the search, or fix it.")
    if not guilty and shaping:
        named = ", ".join(f"{parameter.name}={value}" for parameter, value in shaping)
        yield shaping[0][0].problem(f"{error}. This happens with {named}.")


def _pairs(values: Assignment) -> Iterator[tuple[Parameter, Any]]:
    """Yield the choices that decide what a model is."""
    for parameter, value in values.items():
        if any(key.startswith(ARCHITECTURE_SECTIONS) for key in parameter.keys):
            yield parameter, value
