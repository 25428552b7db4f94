"""A study's folder, and the Optuna journal in it that is the truth about its trials."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.study import StudyDirection

from otter_ray.config import Config, StudyOptions, load_config
from otter_ray.errors import StudyError
from otter_ray.report.rows import METRIC, OBJECTIVES, newest_study, open_journal
from otter_ray.tune.journal import WholeLines, mend_journal
from otter_ray.tune.sampler import build_sampler
from otter_ray.tune.stateless import Searched
from otter_ray.tune.storage import JOURNAL, TRIALS, Storage

# What the study is about now.
CONFIG_FILE, SPACE_FILE = "config.yaml", "space.yaml"
MARK = ".mark"
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
STORAGE_FILE = "storage.txt"


@dataclass(frozen=True)
class StudyFolder:
    """`runs/CONFIG/STUDY/`: where each thing of a study lies."""

    path: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The Optuna journal."""
        return self.path / JOURNAL

    @property
    def storage(self) -> Storage | None:
        """Where the study is kept beside this folder."""
        file = self.path / STORAGE_FILE
        return Storage(file.read_text().strip()) if file.is_file() else None

    def marked(self) -> str:
        """A word that a node reads in `MARK` if the folder that it sees is this one."""
        word = secrets.token_hex(8)
        (self.path / MARK).write_text(word)
        return word

    def delete(self, name: str, storage: Storage | None) -> None:
        """Deletes a file, if it is there, here and where the study is kept. Raises OSError, StudyError."""
        (self.path / name).unlink(missing_ok=True)
        if storage is not None and storage.exists(name):
            storage.remove(name)

    def trial(self, number: int) -> Path:
        """The folder of one trial."""
        return self.path / TRIALS / f"{number:04d}"


def new_name() -> str:
    """A study's name where none is given: the date and time."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def create_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """Makes the folder of a new study; its name is the date and time by default.

    Raises:
        StudyError: the name exists, or nothing can be written there.
    """
    name = name or new_name()
    folder = StudyFolder((runs / config / name).absolute())
    try:
        folder.path.mkdir(parents=True)
        (folder.path / TRIALS).mkdir()
    except FileExistsError as exc:
        if not folder.path.is_dir():
            raise StudyError(f"{folder.path} cannot be made: {exc}. Give another --runs.") from exc
        raise StudyError(
            f"study {name!r} exists in {folder.path.parent}. Go on from where it was with --resume, "
            f"or choose another --name."
        ) from exc
    except OSError as exc:
        raise StudyError(f"{folder.path} cannot be written: {exc}. Give another --runs.") from exc
    return folder


def open_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """The folder of the study to go on with; the newest by default.

    Raises:
        StudyError: there is no such study; lists the ones there are.
    """
    # A driver may have died before it made a journal; then the study begins here.
    studies = [path for path in (runs / config).glob("*/") if _is_study(path)]
    names = [path.name for path in sorted(studies, key=_last_written)]
    if not names or (name is not None and name not in names):
        there = f"There are: {', '.join(names)}." if names else "There is none yet."
        raise StudyError(f"no study {name or ''} of {config} to resume in {runs / config}. {there}")
    return StudyFolder((runs / config / (name or names[-1])).absolute())


def _is_study(path: Path) -> bool:
    return (path / TRIALS).is_dir() or not any(path.iterdir())


def _last_written(study: Path) -> float:
    journal = study / JOURNAL
    return (journal if journal.exists() else study).stat().st_mtime


def kept_folder(
    runs: Path, config: str, name: str | None, place: str, resume: bool
) -> tuple[StudyFolder, Storage]:
    """The folder of a study that is kept elsewhere, too, and that place; to be resumed it need only be there.

    Raises:
        StudyError: the new name is taken, there is no such study to resume, or it went on in both places.
    """
    if resume and name is None:
        raise StudyError("--resume with --storage wants the study's --name.")
    name = name or new_name()
    storage = Storage.of(place, config, name)
    if resume:
        folder = StudyFolder((runs / config / name).absolute())
        kept = folder.storage
        if folder.journal.exists() and (kept is None or kept.uri != storage.uri):
            where = f"is kept in {kept.uri}" if kept else "was begun without --storage"
            raise StudyError(f"study {name} {where}. Leave --storage out, or name that one.")
        storage.get_study(folder.path)
        return folder, storage
    if storage.exists(JOURNAL):
        raise StudyError(f"study {name!r} exists at {storage.uri}. Go on from where it was with --resume.")
    folder = create_folder(runs, config, name)
    (folder.path / STORAGE_FILE).write_text(f"{storage.uri}\n")
    return folder, storage


@contextmanager
def sole_driver(folder: StudyFolder) -> Iterator[None]:
    """Holds the study for this process.

    Raises:
        StudyError: another process runs it.
    """
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise StudyError(
            f"study {folder.name} is running in another process. Wait for it, or end it."
        ) from exc
    try:
        yield
    finally:
        lock.release()


def config_of(folder: StudyFolder, file: str | None, config: Config) -> Config:
    """What a trial's values change: `config`, or an earlier one of the study's, kept in `file`."""
    return load_config(str(folder.path / file)) if file else config


def open_study(
    folder: StudyFolder,
    options: StudyOptions,
    seed: int = 0,
    begin: Callable[[optuna.Study], None] | None = None,
    searched: Searched | None = None,
) -> optuna.Study:
    """The Optuna study in the folder's journal, made at first use. For who holds the study.

    Args:
        begin: queues what a new one begins with; done again where a driver died over it.
        searched: as `build_sampler` wants it.

    Raises:
        StudyError: the journal cannot be read.
    """
    mend_journal(folder.journal)
    try:
        storage = open_journal(folder.journal, WholeLines)
    except (KeyError, ValueError) as exc:
        raise StudyError(f"{folder.journal} cannot be read: {exc!r}. Restore it from a copy.") from exc
    study = newest_study(storage)
    if study is None:
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            directions=[DIRECTIONS[mode] for mode in (options.mode, *options.objectives.values())],
            load_if_exists=True,
        )
        if begin is not None:
            begin(study)
        if options.objectives:
            study.set_user_attr(OBJECTIVES, options.objectives)
        study.set_user_attr(METRIC, options.metric)
    study.sampler = build_sampler(options, seed, searched)
    return study
