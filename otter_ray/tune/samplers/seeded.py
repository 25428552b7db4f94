"""Random numbers that do not depend on what was drawn before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial


class SeededSampler(BaseSampler):
    """Draw from the study's history and from (seed, trial, parameter) alone.

    A sampler of Optuna's has a generator, whose state is lost when the driver dies. This one makes a new
    sampler for each draw. A resumed study draws what it would have drawn without the interruption, also in
    the middle of a trial's parameters.

    Args:
        make: Returns the sampler for a seed.
        seed: Of the study. None: other numbers each time.
    """

    def __init__(self, make: Callable[[int | None], BaseSampler], seed: int | None) -> None:
        self.make, self.seed = make, seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what the trial's sampler infers."""
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw as the trial's sampler does."""
        sampler = self._for(trial)
        # Some keep what they find there (TPE's groups).
        sampler.infer_relative_search_space(study, trial)
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw as the sampler of this trial and parameter does."""
        return self._for(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _for(self, trial: FrozenTrial, parameter: str = "") -> BaseSampler:
        if self.seed is None:
            return self.make(None)
        return self.make(int(seed_sequence(self.seed, trial.number, parameter).generate_state(1)[0]))


def seed_sequence(seed: int, trial: int, purpose: str) -> np.random.SeedSequence:
    """Return random numbers that belong to one trial and one purpose."""
    return np.random.SeedSequence([seed, trial, crc32(purpose.encode())])
