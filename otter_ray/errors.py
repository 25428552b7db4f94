"""The errors that a user can meet, each with a message that says what to do.

OtterError
├── ConfigError     the config, the search space or --set: every problem of it at once
├── DataError       a folder of images that cannot be used
├── TrainingError   a run that cannot start or continue
├── StudyError      a study that cannot start or continue
├── ExportError     a model that cannot be exported, or that failed the gate
├── FileError       a file that otter_ray wrote, and that is damaged or cannot be read any more
└── ProjectError    a new project that cannot be made

A command prints the message, no traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST = 400  # characters of another library's message: torch's may describe a whole graph in one line


class OtterError(Exception):
    """Base of every error that is the user's to fix. `str(error)` is the whole message."""


class DataError(OtterError):
    """A folder of images is missing, empty or unreadable."""


class TrainingError(OtterError):
    """A run cannot start or continue."""


class StudyError(OtterError):
    """A study cannot start or continue."""


class ExportError(OtterError):
    """A checkpoint cannot be exported, or its ONNX file failed the gate."""


class FileError(OtterError):
    """A file that otter_ray has written is damaged, is something else now, or cannot be read."""


class ProjectError(OtterError):
    """A new project has a name that it cannot have, or no place."""


class SoleWarning(UserWarning):
    """A warning of which one is enough, whatever the numbers in the others of its class."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config or a search space.

    Attributes:
        key: The dotted key, `model.loss.options.m`.
        message: The value, the rule and the remedy.
        file: Where the key was written; None if it was not written in a file.
        line: The line there, counted from 1.
    """

    key: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        # Names of files and arguments may hold bytes that are no text; a terminal takes text alone.
        return text.encode("utf-8", "backslashreplace").decode()


class ConfigError(OtterError):
    """Every problem found in a config, a search space or `--set` values, by file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        files = list(dict.fromkeys(problem.file for problem in problems))
        self.problems = sorted(problems, key=lambda found: (files.index(found.file), found.line or 0))

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def in_one_line(exc: BaseException) -> str:
    """Describe an error. One without a message is described by the function that raised it."""
    if not str(exc).strip():
        frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
        return f"{type(exc).__name__} in {frames[-1].f_code.co_qualname}"
    text = str(exc) if isinstance(exc, OtterError) else f"{type(exc).__name__}: {exc}"
    line = text.strip().splitlines()[0]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "lr"?' for the nearest known words, or '' if none is near."""
    names = {str(name).lower(): str(name) for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.6)
    if not near and len(word) > 2:
        near = [name for name in names if name.startswith(word.lower())][:3]
    return f" Did you mean {' or '.join(repr(names[name]) for name in near)}?" if near else ""
