"""Lightning speaks a lot."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from otter_ray.warn import once


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out Lightning's advice that the user cannot act on: the config decides such things.

    What anybody warns of is said once, not after each epoch.
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
            ):
                warnings.filterwarnings("ignore", message=f".*{advice}")
            warnings.showwarning = once(warnings.showwarning)
            yield
    finally:
        logger.setLevel(level)
