"""Optuna's samplers, by name."""

from __future__ import annotations

import optuna

from otter_ray.config import StudyOptions
from otter_ray.errors import StudyError


def build_sampler(options: StudyOptions, seed: int, trials: int = 0) -> optuna.samplers.BaseSampler:
    """The study's Optuna sampler, seeded by the config's seed unless its options name one.

    Args:
        trials: that the study has already asked for. A resumed study goes on with other random numbers
            than it began with, or it would draw its first trials again.
    """
    cls = getattr(optuna.samplers, options.sampler.name)
    chosen = {"seed": seed, **options.sampler.options}
    try:
        if isinstance(chosen["seed"], int):
            chosen["seed"] += trials
        sampler: optuna.samplers.BaseSampler = cls(**chosen)
    except (TypeError, ValueError) as exc:
        raise StudyError(f"study.sampler.options: {options.sampler.name} refuses them: {exc}") from exc
    return sampler
