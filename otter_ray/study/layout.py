"""The layout of a study's folder, `runs/CONFIG/STUDY/`: the name and place of everything in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otter_ray import checkpoints
from otter_ray.checkpoints import ANY_CHECKPOINT, CHECKPOINTS
from otter_ray.errors import FileError, StudyError
from otter_ray.files import atomic_write, read_bytes

JOURNAL = "study.journal"  # Optuna's
LOCK = ".lock"  # held by the driver
MARK = ".mark"  # a word by which other nodes recognize the folder
CONFIG_FILE, SPACE_FILE = "config.yaml", "space.yaml"  # what the study is about now
CHANGES_FILE = "changes.txt"
STORAGE_FILE = "storage.txt"  # the URI of the study's copy
MODEL_STATS_FILE = "figures.json"
TRIALS = "trials"
TRIALS_TABLE = "trials.parquet"
LOG = "log.txt"  # in a trial's folder
CRASH = "crash.txt"  # in a trial's folder: where it was when a signal ended its process
RESTORED = "restored"  # the checkpoint that the config starts from
PARTIAL = ".partial"  # ends the name of what is being written
FINALS = "finals"  # the finalists' runs: a study of its own, without a search
WINNER_CONFIG = "best.yaml"
GALLERY = "gallery.json"
ENVIRONMENT = "environment.json"
# What to do if one of the study's own files is damaged.
RESTORE = "Restore it from a copy, for example the one in the study's --storage."


def require_journal(folder: Path) -> Path:
    """Return the journal in a study's folder.

    Args:
        folder: given by a user.

    Raises:
        StudyError: the folder holds no journal.
    """
    journal = folder / JOURNAL
    if not os.path.lexists(journal):
        raise StudyError(f"{folder} holds no {JOURNAL}. Give a study's folder: runs/CONFIG/STUDY.")
    return journal


def require_file(file: Path) -> str:
    """Return the path of a file that a study's folder must have.

    Raises:
        FileError: there is none, or it cannot be read.
    """
    if read_bytes(file, RESTORE) is None:
        raise FileError(f"{file}: does not exist. {RESTORE}")
    return str(file)


def trial_folder(number: int) -> str:
    """Return a trial's folder, relative to the study's."""
    return f"{TRIALS}/{number:04d}"


def trial_log(number: int) -> str:
    """Return a trial's log, relative to the study's folder."""
    return f"{trial_folder(number)}/{LOG}"


def trial_checkpoint(number: int, name: str) -> str:
    """Return a trial's checkpoint of that file name, relative to the study's folder."""
    return f"{trial_folder(number)}/{CHECKPOINTS}/{name}"


def epoch_checkpoint(number: int, epoch: int) -> str:
    """Return where a trial's checkpoint of an epoch is kept for other trials to start from."""
    return trial_checkpoint(number, checkpoints.epoch_checkpoint(epoch))


def trial_checkpoints(study: Path) -> Iterator[Path]:
    """Yield the checkpoints of every trial in a study's folder."""
    return study.glob(f"{TRIALS}/*/{CHECKPOINTS}/{ANY_CHECKPOINT}")


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder.

    Attributes:
        path: the folder.
        label: the study's name, if it is not the folder's.
    """

    path: Path
    label: str = ""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.label or self.path.name

    @property
    def config_name(self) -> str:
        """The name of the study's config, after which the folder above is called."""
        return self.path.parent.name

    def holds_study(self) -> bool:
        """Say whether the folder is that of a study, which may have died before it had a journal."""
        return os.path.isdir(self.path / TRIALS)

    def has_trials(self) -> bool:
        """Say whether any trial has begun."""
        return any((self.path / TRIALS).glob("[0-9]*"))

    @property
    def journal(self) -> Path:
        """The Optuna journal."""
        return self.path / JOURNAL

    @property
    def config_file(self) -> Path:
        """The study's config."""
        return self.path / CONFIG_FILE

    @property
    def space_file(self) -> Path:
        """The study's search space."""
        return self.path / SPACE_FILE

    @property
    def finals(self) -> StudyFolder:
        """The folder of the finalists' runs."""
        return StudyFolder(self.path / FINALS, f"{self.name}/{FINALS}")

    def trial(self, number: int) -> Path:
        """Return a trial's folder."""
        return self.path / trial_folder(number)

    def write_mark(self) -> str:
        """Write a word into `MARK` and return it; a node that reads this word there sees the same folder."""
        word = secrets.token_hex(8)
        with atomic_write(self.path / MARK) as partial:
            partial.write_text(word)
        return word
