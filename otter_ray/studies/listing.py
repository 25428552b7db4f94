"""Find the studies below a folder, and read what each of them has come to. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from otter_ray.errors import OtterError, StudyError, in_one_line
from otter_ray.redaction import safe_text
from otter_ray.report.study_data import StudyData
from otter_ray.space import load_space
from otter_ray.study.finalists import are_decided, read_finalists
from otter_ray.study.journal import journal_errors, last_change
from otter_ray.study.layout import (
    CONFIG_FILE,
    FINALS,
    JOURNAL,
    SPACE_FILE,
    TRIALS,
    StudyFolder,
    require_file,
)
from otter_ray.study.opening import is_locked
from otter_ray.study.outcomes import ended


class StudyState(StrEnum):
    """How far a study is; its values stand in the table and in JSON."""

    RUNNING = "running"  # a process holds it
    FINISHED = "finished"  # every trial that was asked for has ended, and every run of its finalists
    INTERRUPTED = "interrupted"  # trials are left, for `--resume`


@dataclass(frozen=True)
class StudyEntry:
    """What the list says about one study.

    Attributes:
        folder: The study's.
        state: How far it is.
        trials: How many trials have ended.
        asked: How many it is to have.
        metric: What it optimizes.
        mode: Whether larger or smaller values are better: max or min.
        value: The best trial's; None before any.
        trial: The number of the best trial.
        changed: When a trial last began or ended; None before any.
        onnx: The winner's ONNX file, if there is one.
    """

    folder: Path
    state: StudyState
    trials: int
    asked: int
    metric: str
    mode: str
    value: float | None
    trial: int | None
    changed: datetime | None
    onnx: Path | None

    @classmethod
    def read(cls, folder: StudyFolder) -> StudyEntry:
        """Read the study in a folder.

        Raises:
            OtterError: One of its files is missing or damaged.
        """
        is_running = is_locked(folder)
        data = StudyData.open(folder.path)
        options = load_space(require_file(folder.space_file)).study
        count, winner = ended(data.study), data.winner
        is_done = count >= options.num_trials and (
            options.finalists is None
            or are_decided(read_finalists(data.study, folder.path, data.rows, data.direction))
        )
        left = StudyState.FINISHED if is_done else StudyState.INTERRUPTED
        return cls(
            folder=folder.path,
            state=StudyState.RUNNING if is_running else left,
            trials=count,
            asked=options.num_trials,
            metric=safe_text(data.metric),
            mode=data.direction.value,
            value=winner.value if winner else None,
            trial=winner.number if winner else None,
            changed=last_change(folder.journal),
            onnx=data.model[0] if data.model else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        own = StudyFolder(self.folder.absolute())
        changed, onnx = self.changed and self.changed.isoformat(), self.onnx and str(self.onnx)
        about = {"config": own.config_name, "name": own.name, **self.__dict__}
        return {**about, "folder": str(self.folder), "changed": changed, "onnx": onnx}


@dataclass(frozen=True)
class Unreadable:
    """A folder that looks like a study's, and cannot be read as one.

    Attributes:
        folder: The folder.
        error: Why, in one line.
    """

    folder: Path
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"folder": str(self.folder), "state": "unreadable", "error": self.error}


def studies_below(root: Path) -> Iterator[StudyEntry | Unreadable]:
    """Yield the studies below a folder, or in it, by name.

    Args:
        root: Exists. Links below it are followed, each folder once, and under its own name if it is below.

    Raises:
        StudyError: There is no such folder.
    """
    if not root.is_dir():
        raise StudyError(f"{root}: there is no such folder. Give the --runs of your studies.")
    found, closed = _find(root)
    unreadable = {Path(exc.filename): f"cannot be read: {exc.strerror}" for exc in closed}
    for path in sorted({*found, *unreadable}):
        yield Unreadable(path, unreadable[path]) if path in unreadable else _read(StudyFolder(path))


def _find(root: Path) -> tuple[list[Path], list[OSError]]:
    """Return the folders that are studies' or were, and why others could not be looked into."""
    found: list[Path] = []
    closed: list[OSError] = []
    seen: set[str] = set()
    starts = [str(root)]  # and the links in what has been walked, after all that are no links
    for start in starts:
        for path, folders, files in os.walk(start, onerror=closed.append):
            here, is_study = os.path.realpath(path), JOURNAL in files
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            is_lost = not is_study and _is_lost(Path(path), folders, files)
            if is_study or is_lost:
                found.append(Path(path))
            # Below a lost study there may be others: it may be none, but a project.
            skipped = {*folders} if is_study else {FINALS} if is_lost else set()
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skipped)
            links = [place for name in folders if os.path.islink(place := os.path.join(path, name))]
            starts += links
    return found, closed


def _is_lost(path: Path, folders: Collection[str], files: Collection[str]) -> bool:
    """Say whether a folder without a journal is a study's: it has its files, or folders of trials."""
    if TRIALS not in folders:
        return False
    return {CONFIG_FILE, SPACE_FILE} <= {*files} or any((path / TRIALS).glob("[0-9][0-9][0-9][0-9]"))


def _read(folder: StudyFolder) -> StudyEntry | Unreadable:
    try:
        with journal_errors(folder.journal):  # of whatever is not as a study's journal has it
            return StudyEntry.read(folder)
    except (OtterError, OSError) as exc:
        return Unreadable(folder.path, safe_text(in_one_line(exc)))
