"""How many trials may run at once, while nodes come and go.

Whether another trial may start is decided by `OptunaSearcher.suggest` (`tune/search/searcher.py`), which asks
here, and asks whether any trial is left and whether the search is to stop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from otter_ray.tune.cluster.autoscaler import cluster_capacity
from otter_ray.tune.cluster.planner import Plan


class ConcurrencyLimiter:
    """Say how many trials may run at once, asked again as nodes come and go.

    Args:
        plan: of the trials.
        autoscaler: its configuration, or None for none.
        seconds: for which an answer holds.
    """

    def __init__(self, plan: Plan, autoscaler: Mapping[str, Any] | None = None, seconds: float = 1.0) -> None:
        self.plan, self.autoscaler, self.seconds = plan, autoscaler, seconds
        self._answer, self._until = plan.slots, 0.0

    def __call__(self) -> int:
        """Return at least 1: a trial that waits is what shows an autoscaler that a node is needed."""
        if time.monotonic() >= self._until:
            self._answer = max(1, self.plan.slots_on(*cluster_capacity(self.autoscaler)))
            self._until = time.monotonic() + self.seconds
        return self._answer
