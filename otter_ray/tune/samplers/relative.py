"""What samplers share that draw a trial's parameters together: the space is given, not inferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

RelativeSpace: TypeAlias = Mapping[str, BaseDistribution]


class FixedSpaceMixin:
    """Search a relative space that is known from the start.

    Optuna takes what earlier trials have in common for the space. A base config with a value outside its
    range would then take that parameter out of the search.

    Args:
        searched: The parameters that are drawn together, by name.
        options: Those of Optuna's class.
    """

    def __init__(self, searched: RelativeSpace, **options: Any) -> None:
        super().__init__(**options)
        self.searched = dict(searched)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self.searched

    def has_all_parameters(self, trial: FrozenTrial) -> bool:
        """Tell whether the trial has a value for every parameter of the space."""
        return self.searched.keys() <= trial.params.keys()
