"""One line of the doctor's, and how a check becomes some of them whatever it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread
from typing import Literal

from otter_ray.errors import ConfigError, OtterError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What a check found; a warning's and an error's text ends with the remedy. Plain data: it travels."""

    level: Level
    text: str


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warning(text: str) -> Finding:
    """It may go wrong."""
    return Finding("warning", text)


def error(text: str) -> Finding:
    """It will go wrong."""
    return Finding("error", text)


def examine(check: Callable[[], Iterable[Finding]], seconds: float = 60.0) -> list[Finding]:
    """What a check finds. What it warns of, raises, or takes longer for than `seconds`, is a finding, too."""
    found: list[Finding] = []
    thread = Thread(target=_collect, args=(check, found), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [*found, error(f"no answer within {seconds:g} s. Look whether a disk or the network hangs.")]
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
        except Exception as exc:  # what is broken is not known beforehand; the other checks go on
            found.append(error(f"cannot be examined: {type(exc).__name__}: {exc}"))
    found += [warning(str(entry.message)) for entry in caught]
