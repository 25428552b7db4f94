"""One run: Otter's building blocks and `python -m otter_ray.train CFG`. Knows nothing of Ray.

What a project's own code may need can be imported from here, next to what `otter_ray` itself gives. Each name
is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otter_ray import lazy

if TYPE_CHECKING:
    from otter_ray.train.checks.validation import check_config
    from otter_ray.train.distributed import all_gather_rows
    from otter_ray.train.model.replicates import Replicates, mean_replicates
    from otter_ray.train.registry import find_class
    from otter_ray.train.run_options import RunHooks, RunOptions
    from otter_ray.train.tracking.epoch_report import EpochReport
    from otter_ray.train.trainer import run_training
else:
    __getattr__ = lazy.on_first_use(
        __name__,
        {
            "EpochReport": "tracking.epoch_report",
            "Replicates": "model.replicates",
            "RunHooks": "run_options",
            "RunOptions": "run_options",
            "all_gather_rows": "distributed",
            "check_config": "checks.validation",
            "find_class": "registry",
            "mean_replicates": "model.replicates",
            "run_training": "trainer",
        },
    )

__all__ = [
    "EpochReport",
    "Replicates",
    "RunHooks",
    "RunOptions",
    "all_gather_rows",
    "check_config",
    "find_class",
    "mean_replicates",
    "run_training",
]
