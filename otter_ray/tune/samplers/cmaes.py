"""CMA-ES without a pickle in the journal."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from optuna.trial import FrozenTrial

from otter_ray.tune.samplers.optuna_compat import MARGIN_POINT, HookedCmaEsSampler, ToPoint
from otter_ray.tune.samplers.relative import FixedSpaceMixin, RelativeSpace


class CmaEs(FixedSpaceMixin, HookedCmaEsSampler):
    """Replay CMA-ES (Hansen 2016, arXiv 1604.00772) from the generations that are complete.

    Optuna keeps the optimizer in the journal as a pickle. Anyone who can write to the journal could make the
    driver run code through it. Here the optimizer is built anew for each draw.
    """

    def __init__(self, searched: RelativeSpace, popsize: int | None = None, **options: Any) -> None:
        if popsize is not None and popsize < 4:
            raise ValueError(f"popsize is {popsize} but must be at least 4")
        super().__init__(searched, popsize=popsize, **options)

    def has_all_parameters(self, trial: FrozenTrial) -> bool:
        """Tell whether the optimizer can be told of the trial."""
        point = trial.system_attrs.get(MARGIN_POINT, self.searched)
        return super().has_all_parameters(trial) and len(point) == len(self.searched)

    def advance(self, optimizer: Any, to_point: ToPoint, sign: int) -> Any:
        """Tell the optimizer of all complete generations: Optuna then finds none left to tell it of."""
        size = optimizer.population_size
        while len(trials := self.generation(optimizer.generation)) >= size:
            told = [(self._point(t, to_point), sign * cast(float, t.value)) for t in trials[:size]]
            optimizer.tell(told)
        return optimizer

    def select_generation(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return a generation in the order in which it ended: a late trial must not change what it was."""
        found = filter(self.has_all_parameters, trials)
        return sorted(found, key=lambda trial: (trial.datetime_complete, trial.number))

    def _point(self, trial: FrozenTrial, to_point: ToPoint) -> Any:
        point = trial.system_attrs.get(MARGIN_POINT) if self.has_margin else None
        return to_point(trial.params) if point is None else np.array(point)
