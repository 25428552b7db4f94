"""The genetic algorithm NSGA-II."""

from __future__ import annotations

import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial

from otter_ray.tune.samplers.relative import FixedSpaceMixin


class NSGAII(FixedSpaceMixin, NSGAIISampler):
    """Run NSGA-II (Deb et al. 2002); trials of a narrower space become no parents."""

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Return those trials of a generation that have every parameter."""
        return [*filter(self.has_all_parameters, super().get_population(study, generation))]
