"""Samplers by name: made from a search space's `sampler:`, and its options checked.

Which names there are, what each sampler can search, and how to add one, is in `space/samplers.py`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from otter_ray.errors import Problem, StudyError, did_you_mean
from otter_ray.formatting import short_repr
from otter_ray.space import SearchProblem, Space, StudyOptions
from otter_ray.study.distributions import relative_search_space
from otter_ray.tune.samplers.cmaes import CmaEs
from otter_ray.tune.samplers.gp import GP
from otter_ray.tune.samplers.grid import Grid
from otter_ray.tune.samplers.nsga2 import NSGAII
from otter_ray.tune.samplers.qmc import QMC
from otter_ray.tune.samplers.relative import RelativeSpace
from otter_ray.tune.samplers.seeded import SeededSampler
from otter_ray.tune.samplers.tpe import TPE, HistoryWindow

# Instead of Optuna's classes, which keep something from draw to draw, or lose parameters on the way.
RELATIVE: dict[str, Callable[..., BaseSampler]] = {
    "CmaEsSampler": CmaEs,
    "GPSampler": GP,
    "GridSampler": Grid,
    "NSGAIISampler": NSGAII,
    "QMCSampler": QMC,
}
# What a file can say. An argument that needs something else, a function or a sampler, is not offered.
PLAIN: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


def build_sampler(problem: SearchProblem) -> BaseSampler:
    """Make the sampler of a search problem.

    Raises:
        StudyError: Optuna's class refuses its options.
    """
    return make_sampler(problem.options, problem.config.common.seed, relative_search_space(problem))


def make_sampler(options: StudyOptions, seed: int, searched: RelativeSpace | None = None) -> BaseSampler:
    """Make a study's sampler, seeded by the config's seed unless its options name one.

    Args:
        options: Of the study.
        seed: The config's.
        searched: As `relative_search_space` returns it; TPE and random search need none.

    Raises:
        StudyError: Optuna's class refuses its options.
    """
    name, chosen = options.sampler.name, dict(options.sampler.options)
    seed = chosen.pop("seed", seed)
    cls = _class_of(name, searched)

    def make(drawn: int | None) -> BaseSampler:
        with warnings.catch_warnings():
            # It would say for each draw that an option is experimental.
            warnings.simplefilter("ignore")
            return cls(**chosen, seed=drawn)

    try:
        np.random.SeedSequence(seed)
        first = make(seed)
    except (TypeError, ValueError) as exc:
        raise StudyError(f"study.sampler.options: {name} refuses them: {exc}") from exc
    return first if options.sampler.capabilities.follows_number else SeededSampler(make, seed)


def _class_of(name: str, searched: RelativeSpace | None) -> Callable[..., BaseSampler]:
    """Return what makes the sampler of that name, given its options and a seed."""
    if name in RELATIVE:
        assert searched is not None
        return partial(RELATIVE[name], searched)
    if name == "TPESampler":
        return partial(TPE, searched, HistoryWindow())
    sampler_class: Callable[..., BaseSampler] = getattr(optuna.samplers, name)
    return sampler_class


def option_problems(space: Space) -> Iterator[Problem]:
    """Yield what is wrong with the sampler's options, by the signature of Optuna's class."""
    sampler = space.study.sampler
    signature = inspect.signature(getattr(optuna.samplers, sampler.name)).parameters
    kinds = {name: [*map(str.strip, str(signature[name].annotation).split("|"))] for name in signature}
    offered = {name: kind for name, kind in kinds.items() if PLAIN.keys() >= {*kind}}
    for name, value in sampler.options.items():
        key = f"study.sampler.options.{name}"
        if name not in offered:
            rule = f"It takes {', '.join(offered)}.{did_you_mean(name, offered)}"
            yield space.problem(key, f"{sampler.name} takes no {name!r} from a file. {rule}")
        elif not any(_is(value, kind) for kind in offered[name]):
            wanted = " or ".join(kind for kind in offered[name] if kind != "None")
            yield space.problem(
                key, f"{short_repr(value)} does not fit. {sampler.name} takes {wanted} there."
            )


def _is(value: object, kind: str) -> bool:
    return isinstance(value, PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool))
