"""Optuna's samplers, by name, with random numbers that do not depend on what was drawn before."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from otter_ray.config import Space, StudyOptions
from otter_ray.config.rules import shown
from otter_ray.errors import Problem, StudyError, did_you_mean
from otter_ray.tune.stateless import GP, NSGAII, QMC, CmaEs, Grid, Searched
from otter_ray.tune.tpe import TPE, LookedAt

# In place of Optuna's, which keep something from draw to draw, or lose parameters on the way.
TOGETHER: dict[str, Callable[..., BaseSampler]] = {
    "CmaEsSampler": CmaEs,
    "GPSampler": GP,
    "NSGAIISampler": NSGAII,
}
# Of these a trial's values follow from its number: all trials share one seed.
NUMBERED: dict[str, Callable[..., BaseSampler]] = {"QMCSampler": QMC, "GridSampler": Grid}
# What a file can say. An argument that wants something else, a function or a sampler, is not offered.
PLAIN: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


class SeededSampler(BaseSampler):
    """Draws from the study's history and (seed, trial, parameter) alone.

    A sampler of Optuna's carries a generator along, which dies with the driver. This one makes a sampler
    anew for each draw, so that a study that is taken up again, in the middle of a trial's parameters, too,
    draws what it would have drawn.

    Args:
        make: gives the sampler for a seed.
        seed: of the study; None: other numbers each time.
    """

    def __init__(self, make: Callable[[int | None], BaseSampler], seed: int | None) -> None:
        self.make, self.seed = make, seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As Optuna's sampler."""
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's sampler."""
        sampler = self._for(trial)
        # Some keep what they find there (TPE's groups).
        sampler.infer_relative_search_space(study, trial)
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna's sampler."""
        return self._for(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _for(self, trial: FrozenTrial, parameter: str = "") -> BaseSampler:
        if self.seed is None:
            return self.make(None)
        return self.make(int(numbers_of(self.seed, trial.number, parameter).generate_state(1)[0]))


def numbers_of(seed: int, trial: int, what: str) -> np.random.SeedSequence:
    """Random numbers that belong to one trial and one purpose."""
    return np.random.SeedSequence([seed, trial, crc32(what.encode())])


def build_sampler(options: StudyOptions, seed: int, searched: Searched | None = None) -> BaseSampler:
    """The study's Optuna sampler, seeded by the config's seed unless its options name one.

    Args:
        searched: as `searched_together` gives it; TPE and random search do without.

    Raises:
        StudyError: Optuna's class refuses its options.
    """
    name, chosen = options.sampler.name, dict(options.sampler.options)
    seed = chosen.pop("seed", seed)
    cls: Callable[..., BaseSampler] = getattr(optuna.samplers, name)
    if name == "TPESampler":
        cls = partial(TPE, searched, LookedAt())
    if name in TOGETHER | NUMBERED:
        assert searched is not None
        cls = partial((TOGETHER | NUMBERED)[name], searched)

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
    return first if name in NUMBERED else SeededSampler(make, seed)


def option_problems(space: Space) -> Iterator[Problem]:
    """What is wrong with the options of the study's sampler, held against the signature of Optuna's class."""
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
            yield space.problem(key, f"{shown(value)} does not fit. {sampler.name} takes {wanted} there.")


def _is(value: object, kind: str) -> bool:
    return isinstance(value, PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool))
