"""Warnings, said once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def once(show: Callable[..., None]) -> Callable[..., None]:
    """`warnings.showwarning` that says no text twice: Python forgets it at each change of a filter."""
    told: set[str] = set()

    def showwarning(message: Warning | str, *about: Any) -> None:
        if (text := str(message)) not in told:
            told.add(text)
            show(message, *about)

    return showwarning
