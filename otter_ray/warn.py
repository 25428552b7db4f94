"""Warnings, each shown once, and otter_ray's own as users read them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otter_ray.errors import SoleWarning
from otter_ray.redaction import safe_text

SAID: set[str] = set()  # identities of the warnings that the command has printed or logged


@contextmanager
def warnings_for_users() -> Iterator[None]:
    """Print warnings of otter_ray in one line, without the line of code that issued them, and none twice."""
    with warnings.catch_warnings():
        warnings.showwarning = once(_plainly(warnings.showwarning), SAID)
        try:
            yield
        finally:
            SAID.clear()


def once(show: Callable[..., None], shown: set[str] | None = None) -> Callable[..., None]:
    """Make a `warnings.showwarning` that shows no warning twice: Python forgets it when a filter changes.

    Args:
        show: shows a warning for the first time.
        shown: identities of those that were shown; grows. None for a set of its own.
    """
    known = set() if shown is None else shown

    def showwarning(message: Warning | str, *about: Any) -> None:
        if (identity := identity_of(message)) not in known:
            known.add(identity)
            show(message, *about)

    return showwarning


def identity_of(message: Warning | str) -> str:
    """Return what two warnings share of which one is enough: their class if it says so, or their text."""
    return type(message).__qualname__ if isinstance(message, SoleWarning) else str(message)


def _plainly(show: Callable[..., None]) -> Callable[..., None]:
    """Make a `warnings.showwarning` that prints otter_ray's own warnings as one line each.

    Args:
        show: shows the warnings of other packages.
    """
    ours = Path(__file__).parent

    def showwarning(message: Warning | str, category: type[Warning], filename: str, *place: Any) -> None:
        if ours in Path(filename).parents:
            # It may quote text from anywhere.
            print(safe_text(f"warning: {message}"), file=sys.stderr)
        else:
            show(message, category, filename, *place)

    return showwarning
