"""A study's beginning: its folder is created or opened, locked, and its journal opened for writing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from otter_ray.config import Config, load_config
from otter_ray.direction import Direction
from otter_ray.errors import FileError, StudyError
from otter_ray.files import is_name
from otter_ray.space import StudyOptions
from otter_ray.study.journal import (
    AtomicJournalBackend,
    journal_errors,
    last_change,
    lost_beginning,
    mark_created,
    newest_study,
    open_journal,
    repair_journal,
    require_beginning,
)
from otter_ray.study.layout import JOURNAL, LOCK, STORAGE_FILE, TRIALS, StudyFolder, require_file
from otter_ray.study.schema import OBJECTIVES
from otter_ray.study.storage import Storage, storage_of

OPTUNA_DIRECTIONS = {Direction.MAX: StudyDirection.MAXIMIZE, Direction.MIN: StudyDirection.MINIMIZE}


def _names(name: str | None) -> Iterator[str]:
    """Yield the names to try: the given one, or the date and time, with a number if that is taken."""
    if name is not None:
        yield name
        return
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    yield now
    yield from (f"{now}-{number}" for number in count(2))


def create_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """Create the folder of a new study.

    Args:
        runs: the folder of all studies.
        config: the config's name.
        name: the study's; the date and time by default.

    Raises:
        StudyError: the name exists, or nothing can be written there.
    """
    for candidate in _names(name):
        folder = StudyFolder((runs / config / candidate).absolute())
        if _is_created(folder):
            return folder
    raise name_taken(name, (runs / config).absolute())


def name_taken(name: str | None, place: object) -> StudyError:
    """Return the error of a new study whose name exists in a place."""
    return StudyError(
        f"study {name!r} exists in {place}. Continue it with --resume, or choose another --name."
    )


def _is_created(folder: StudyFolder) -> bool:
    """Create a study's folder, and say whether its name was free."""
    try:
        folder.path.mkdir(parents=True)
        (folder.path / TRIALS).mkdir()
    except FileExistsError as exc:
        if not folder.path.is_dir():
            raise StudyError(f"{folder.path} cannot be made: {exc}. Give another --runs.") from exc
        return False
    except OSError as exc:
        raise StudyError(f"{folder.path} cannot be written: {exc}. Give another --runs.") from exc
    return True


def open_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """Return the folder of the study to resume.

    Args:
        runs: the folder of all studies.
        config: the config's name.
        name: the study's; by default the study whose trials began or ended last.

    Raises:
        StudyError: there is no such study; lists the ones there are.
    """
    # A driver may have died before it made a journal; then the study begins here.
    studies = [path for path in (runs / config).glob("*/") if _is_study(path)]
    names = [path.name for path in sorted(studies, key=_last_change)]
    if not names or (name is not None and name not in names):
        there = f"There are: {', '.join(names)}." if names else "There is none yet."
        raise StudyError(f"no study {name or ''} of {config} to resume in {runs / config}. {there}")
    return StudyFolder((runs / config / (name or names[-1])).absolute())


def refuse_links_out(folder: StudyFolder) -> None:
    """Refuse a study whose files are links to files elsewhere: resuming it would write there.

    A folder may be a link, to a larger disk for example.

    Args:
        folder: the study's; anybody may have made it.

    Raises:
        StudyError: a file in it is such a link.
    """
    root = os.path.realpath(folder.path)
    for path in folder.path.rglob("*"):
        if path.is_symlink() and not path.is_dir():
            target = Path(os.path.realpath(path))
            if not target.is_relative_to(root):
                raise StudyError(
                    f"{path} is a link to {target}, which is outside the study and would be written to. "
                    "Replace it by a copy of that file."
                )


def _is_study(path: Path) -> bool:
    return (path / TRIALS).is_dir() or not any(path.iterdir())


def _last_change(study: Path) -> datetime:
    """Return when a study last changed. Its journal says so even if it was copied, or files were touched."""
    journal = study / JOURNAL
    if not journal.exists():
        return datetime.fromtimestamp(study.stat().st_mtime).astimezone()
    with suppress(FileError):  # that matters if this study is the one
        if found := last_change(journal):
            return found
    return datetime.fromtimestamp(journal.stat().st_mtime).astimezone()


def open_or_create_in_storage(
    runs: Path, config: str, name: str | None, place: str, resume: bool
) -> tuple[StudyFolder, Storage]:
    """Open or create the folder of a study that has a copy in a storage, and return the two.

    To resume a study it is enough that it exists in the storage.

    Args:
        runs: the folder of all studies on this machine.
        config: the config's name.
        name: the study's; required to resume one.
        place: what `--storage` names.
        resume: whether the study exists.

    Raises:
        StudyError: the new name is taken, there is no such study to resume, or it went on in both places.
    """
    if resume:
        return _open_in_storage(runs, config, name, place)
    for candidate in _names(name):
        storage = Storage.of(place, config, candidate)
        folder = StudyFolder((runs / config / candidate).absolute())
        if not storage.exists(JOURNAL) and _is_created(folder):
            (folder.path / STORAGE_FILE).write_text(f"{storage.uri}\n", encoding="utf-8")
            return folder, storage
    taken = Storage.of(place, config, str(name)).uri
    raise StudyError(
        f"study {name!r} exists at {taken} or in {(runs / config).absolute()}. Continue it with --resume, or "
        "choose another --name."
    )


def _open_in_storage(runs: Path, config: str, name: str | None, place: str) -> tuple[StudyFolder, Storage]:
    if name is None:
        raise StudyError("--resume with --storage needs the study's --name.")
    storage = Storage.of(place, config, name)
    folder = StudyFolder((runs / config / name).absolute())
    kept = storage_of(folder)
    if folder.journal.exists() and (kept is None or kept.uri != storage.uri):
        where = f"is kept in {kept.uri}" if kept else "was begun without --storage"
        raise StudyError(f"study {name} {where}. Leave --storage out, or name that one.")
    refuse_links_out(folder)  # a download would follow them
    storage.get_study(folder.path)
    return folder, storage


@contextmanager
def study_lock(folder: StudyFolder) -> Iterator[None]:
    """Hold the study for this process.

    Raises:
        StudyError: another process runs it, or nothing can be written in its folder.
    """
    file = folder.path / LOCK
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0.5, poll_interval=0.05)  # `is_locked` shares it for a moment
    except Timeout as exc:
        raise StudyError(
            f"study {folder.name} is running in another process. Wait for it, or end it."
        ) from exc
    except OSError as exc:
        raise StudyError(
            f"{file}: cannot be written: {exc.strerror}. Make the study's folder writable, and move away "
            f"what is called {LOCK} if it is not a file."
        ) from exc
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: StudyFolder) -> bool:
    """Return whether a process holds the study (`study_lock`), without writing anything.

    The lock is shared for the microseconds of the question: the process that holds it holds it alone.
    """
    try:
        file = os.open(folder.path / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # of a file system without locks, where nobody holds one either
        return False
    finally:
        os.close(file)
    return False


def open_study(
    folder: StudyFolder,
    options: StudyOptions,
    sampler: BaseSampler | None = None,
    begin: Callable[[optuna.Study], None] | None = None,
) -> optuna.Study:
    """Open the Optuna study in the folder's journal for writing, and create it if there is none.

    Only the process that holds `study_lock` may do so.

    Args:
        folder: the study's.
        options: metric and objectives of a new study.
        sampler: draws the trials; Optuna's default suits a study to which no trial is added.
        begin: queues the first trials of a new study. It is called again if a driver died over it.

    Raises:
        FileError: the journal cannot be read.
        StudyError: the journal has lost its beginning: it would be taken for that of a new study.
    """
    if folder.has_trials():
        require_beginning(folder)
    repair_journal(folder.journal)
    if folder.journal.exists() and folder.journal.stat().st_size:
        require_beginning(folder)
    with journal_errors(folder.journal):
        storage = open_journal(folder.journal, AtomicJournalBackend)
        study = newest_study(storage)
    if study is None and folder.has_trials():
        raise lost_beginning(folder)
    if study is None:
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            directions=[
                OPTUNA_DIRECTIONS[direction]
                for direction in (options.direction, *options.other_directions.values())
            ],
            load_if_exists=True,
        )
        if begin is not None:
            begin(study)
        if options.objectives:
            study.set_user_attr(OBJECTIVES, options.objectives)
        mark_created(study, options.metric)
    if sampler is not None:
        study.sampler = sampler
    return study


def base_config_of(folder: StudyFolder, file: str | None, config: Config) -> Config:
    """Return the config that a trial's values change.

    Args:
        folder: the study's.
        file: the trial's `config`: the file of an earlier config; None for the study's own.
        config: the study's own.

    Raises:
        StudyError: it is not the name of a file in the folder.
    """
    if file is not None and not (isinstance(file, str) and is_name(file)):
        raise StudyError(
            f"{folder.journal} names {file!r} as a trial's config, which is no file of the study. Something "
            "else has written there: restore the journal from a copy."
        )
    return load_config(require_file(folder.path / file)) if file else config
