"""Keep back what Lightning says and no user can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from otter_ray.warn import once


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out advice of Lightning's that the user cannot act on, because the config decides such things.

    Every other warning is shown once, not after each epoch.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for advice in (
                "does not have many workers",
                "number of training batches",
                "Checkpoint directory",
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
            ):
                warnings.filterwarnings("ignore", message=f".*{advice}")
            warnings.showwarning = once(warnings.showwarning)
            yield
    finally:
        logger.setLevel(level)
