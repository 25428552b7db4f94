"""Lightning speaks a lot."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out Lightning's advice that the user cannot act on: the config decides such things."""
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
            yield
    finally:
        logger.setLevel(level)
