"""A study's journal: reading it, writing it in atomic lines, and repairing it after a crash."""

from __future__ import annotations

import json
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from otter_ray.disk import is_disk_full
from otter_ray.errors import FileError, OtterError, StudyError, in_one_line
from otter_ray.study.layout import RESTORE, TRIALS, StudyFolder
from otter_ray.study.optuna_compat import CREATE_STUDY, file_of, journal_backend, lock_file_of, locked
from otter_ray.study.schema import FORMAT, FORMAT_VERSION, METRIC, OBJECTIVES

MAX_LINE = 1 << 16  # of a journal's first line, which is short
_TIME = re.compile(rb'"datetime_(?:start|complete)":"([0-9T:.+-]{19,32})"')


class AtomicJournalBackend(JournalFileBackend):
    """Optuna's journal file, with atomic lines: one that could not be written completely leaves no trace.

    Optuna would append the next line to the incomplete one, and could read neither. Optuna also waits for
    the disk after each line, and an ordinary trial has fourteen of them: see `batched_writes`.
    """

    _waits = True

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append one line for each, and wait until they are on the disk.

        Raises:
            OSError: they could not be written; the file is as it was.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        path = file_of(self)
        with locked(self):
            size = os.path.getsize(path)
            try:
                with open(path, "ab") as file:
                    file.write(lines.encode())
                    file.flush()
                    if self._waits:
                        os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise

    @contextmanager
    def batched_writes(self) -> Iterator[None]:
        """Wait for the disk once, at the end of the block.

        Raises:
            OSError: the disk failed.
        """
        self._waits = False
        try:
            yield
        finally:
            self._waits = True
            self.append_logs([])


def batched_writes(study: optuna.Study) -> AbstractContextManager[None]:
    """Enter `AtomicJournalBackend.batched_writes` if the study is in such a journal."""
    backend = journal_backend(study)
    return backend.batched_writes() if isinstance(backend, AtomicJournalBackend) else nullcontext()


def open_journal(path: Path, backend: type[JournalFileBackend] = JournalFileBackend) -> JournalStorage:
    """Open the Optuna storage in a journal file, and keep Optuna's own log quiet.

    Raises:
        FileError: the journal cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with journal_errors(path):
        return JournalStorage(backend(str(path)))


def read_study(path: Path) -> optuna.Study | None:
    """Open the newest study in a journal for reading; None if there is no journal, or no study in it yet.

    Raises:
        FileError: the journal cannot be read.
        StudyError: as `newest_study`.
    """
    if not os.path.lexists(path):
        return None
    with journal_errors(path):
        return newest_study(open_journal(path))


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Name the journal that is read during the block if what it holds cannot be used.

    Raises:
        FileError: the journal cannot be read.
    """
    try:
        # Opened for reading, a FIFO would wait for somebody who writes.
        if os.path.lexists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise FileError(f"{path}: is not a regular file. {RESTORE}")
        yield
    except OtterError:
        raise
    except Exception as exc:  # Optuna raises half a dozen kinds for a line that it has not written
        if is_disk_full(exc):
            raise
        raise FileError(
            f"{path}: cannot be read as a study's journal: {in_one_line(exc)}. {RESTORE}"
        ) from exc


def require_beginning(folder: StudyFolder) -> None:
    """Check that the first line of a study's journal creates the study.

    Without it, Optuna passes over all other lines, and the study would seem to be a new one.

    Raises:
        FileError: the journal cannot be read.
        StudyError: the line is missing.
    """
    path, line = folder.journal, b""
    if os.path.lexists(path):
        with journal_errors(path), path.open("rb") as file:
            line = file.readline(MAX_LINE)
    if not _creates_study(line):
        raise lost_beginning(folder)


def lost_beginning(folder: StudyFolder) -> StudyError:
    """Return the error of a journal that has lines or trials of a study, but not the study."""
    trials = f" It has trials in {folder.path / TRIALS}." if folder.has_trials() else ""
    return StudyError(
        f"{folder.journal}: the beginning of study {folder.name} is missing.{trials} {RESTORE} To start a "
        "new study, use another --name."
    )


def _creates_study(line: bytes) -> bool:
    try:
        return bool(json.loads(line)["op_code"] == CREATE_STUDY)
    except (ValueError, LookupError, TypeError):
        return False


def newest_study(storage: JournalStorage) -> optuna.Study | None:
    """Return the last study in a journal that was completely created; None without one.

    A journal holds several studies if the first one was migrated.

    Raises:
        StudyError: a newer otter_ray wrote the journal, in a format that this one does not know.
    """
    studies = storage.get_all_studies()
    for study in studies:
        version = study.user_attrs.get(FORMAT, 1)
        if not (isinstance(version, int) and version <= FORMAT_VERSION):
            raise StudyError(
                f"study {study.study_name}: its journal has format version {version}, and this otter_ray "
                f"knows versions up to {FORMAT_VERSION}. Upgrade otter_ray: pip install --upgrade otter_ray."
            )
    complete = [study for study in studies if METRIC in study.user_attrs]
    return optuna.load_study(study_name=complete[-1].study_name, storage=storage) if complete else None


def last_change(path: Path) -> datetime | None:
    """Return when a trial last began or ended, as a study's journal says; None if no trial has begun.

    Raises:
        FileError: the journal cannot be read.
    """
    with journal_errors(path):
        for text in reversed(_TIME.findall(path.read_bytes())):
            with suppress(ValueError):
                return datetime.fromisoformat(text.decode()).astimezone()  # Optuna 4 wrote no time zone
    return None


def mark_created(study: optuna.Study, metric: str) -> None:
    """Record the format version and the metric: from here on the study counts as completely created.

    Its objectives have been recorded before, if it has several.
    """
    study.set_user_attr(FORMAT, FORMAT_VERSION)
    name_metrics(study, metric)
    study.set_user_attr(METRIC, metric)


def name_metrics(study: optuna.Study, metric: str) -> None:
    """Give the metric and the other objectives their names in optuna-dashboard, which else numbers them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([metric, *study.user_attrs.get(OBJECTIVES, {})])


def repair_journal(path: Path) -> None:
    """Repair a journal after its driver died; only the process that holds the study may do so.

    The last line may be cut off, or zeros if the machine lost power, and Optuna's lock may be left over.

    Raises:
        StudyError: the last line is complete, and yet cannot be read.
    """
    lock_file_of(path).unlink(missing_ok=True)
    if not path.exists():
        return
    with journal_errors(path), path.open("rb+") as file:
        begin, line = _last_line(file)
        if line and (not line.endswith(b"\n") or not line.strip(b"\0\n")):
            file.truncate(begin)
        elif line:
            try:
                json.loads(line)
            except ValueError as exc:
                raise StudyError(
                    f"{path}: its last line cannot be read: {exc}. Something else has written there. "
                    "Remove that line, or restore the file, and --resume."
                ) from exc


def _last_line(file: Any, block: int = 1 << 16) -> tuple[int, bytes]:
    """Return where the last line begins, and its bytes with the line's end."""
    end = file.seek(0, os.SEEK_END)
    begin, tail = end, b""
    while begin > 0 and b"\n" not in tail[:-1]:
        begin = max(0, begin - block)
        file.seek(begin)
        tail = file.read(end - begin)
    line = tail[tail[:-1].rfind(b"\n") + 1 :]
    return end - len(line), line
