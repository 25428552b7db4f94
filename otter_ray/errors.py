"""The errors that a user can meet, each with a message that says what to do.

OtterError
├── ConfigError     the config, the search space or --set: every problem of it at once
├── DataError       a folder of images that cannot be used
├── TrainingError   a run that cannot start or go on
├── StudyError      a study that cannot start or go on
├── ExportError     a model that cannot be exported, or that failed the gate
└── ProjectError    a new project that cannot be made

A command prints the message, no traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class OtterError(Exception):
    """Base of every error that is the user's to mend. `str(error)` is the whole message."""


class DataError(OtterError):
    """A folder of images is missing, empty or unreadable."""


class TrainingError(OtterError):
    """A run cannot start or go on."""


class StudyError(OtterError):
    """A study cannot start or go on."""


class ExportError(OtterError):
    """A checkpoint cannot be exported, or its ONNX file failed the gate."""


class ProjectError(OtterError):
    """A new project has a name that it cannot have, or no place."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a config or a search space.

    `key` is dotted (`model.loss.options.m`); `file` and `line` (from 1) say where it was written and
    are None for what was not written in a file. `message` says value, rule and remedy.
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
    """Every problem found in a config, a search space or `--set` values."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean "lr"?' for the nearest known word, '' when none is near."""
    names = {str(name).lower(): str(name) for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.6)
    if not near and len(word) > 2:
        near = [name for name in names if name.startswith(word.lower())][:3]
    return f" Did you mean {' or '.join(repr(names[name]) for name in near)}?" if near else ""


def is_full(exc: BaseException | None) -> bool:
    """Whether an error comes from a full disk or a used-up quota."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
