"""Findings: the lines that the doctor prints, and how a check becomes findings, whatever it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread
from typing import Literal

from otter_ray.errors import ConfigError, OtterError
from otter_ray.warn import identity_of

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What a check found. The text of a warning or an error ends with the remedy. Plain data: it travels."""

    level: Level
    text: str


def ok(text: str) -> Finding:
    """Report that something is well."""
    return Finding("ok", text)


def warning(text: str) -> Finding:
    """Report that something may go wrong."""
    return Finding("warning", text)


def error(text: str) -> Finding:
    """Report that something will go wrong."""
    return Finding("error", text)


def examine(check: Callable[[], Iterable[Finding]], seconds: float = 60.0) -> list[Finding]:
    """Run a check and return its findings, with its warnings, its errors and its timeout among them.

    Args:
        check: Yields findings; may warn or raise.
        seconds: How long to wait for it.
    """
    found: list[Finding] = []
    thread = Thread(target=_collect, args=(check, found), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [*found, error(f"no answer within {seconds:g} s. Check whether a disk or the network hangs.")]
    return found


def _collect(check: Callable[[], Iterable[Finding]], found: list[Finding]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            for finding in check():
                found.append(finding)
        except ConfigError as exc:
            found += [error(str(problem)) for problem in exc.problems]
        except OtterError as exc:
            found.append(error(str(exc)))
        except Exception as exc:  # what is broken is not known beforehand, and the other checks must run
            found.append(error(f"cannot be examined: {type(exc).__name__}: {exc}"))
    unlike = {identity_of(entry.message): entry.message for entry in reversed(caught)}
    found += [warning(str(message)) for message in reversed(unlike.values())]
