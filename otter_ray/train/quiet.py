"""Lightning speaks a lot."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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


def once(show: Callable[..., None]) -> Callable[..., None]:
    """`warnings.showwarning` that says no text twice: Python forgets it at each change of a filter."""
    told: set[str] = set()

    def showwarning(message: Warning | str, *about: Any) -> None:
        if (text := str(message)) not in told:
            told.add(text)
            show(message, *about)

    return showwarning
