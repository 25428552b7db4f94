"""The driver's hold on a study's journal: what a kill or a full disk left of a line is taken back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import LOCK_FILE_SUFFIX, get_lock_file

from otter_ray.errors import StudyError


class WholeLines(JournalFileBackend):
    """Optuna's journal file, in which a line that could not be written whole leaves no trace.

    Optuna would write the next line behind what is there of it, and could never read the two. It also waits
    for the disk after each line, of which an ordinary trial has fourteen.
    """

    _waits = True

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends one line for each, and waits until they are on the disk. Raises OSError."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock):
            size = os.path.getsize(self._file_path)
            try:
                with open(self._file_path, "ab") as file:
                    file.write(lines.encode())
                    file.flush()
                    if self._waits:
                        os.fsync(file.fileno())
            except OSError:
                os.truncate(self._file_path, size)
                raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within waits for the disk once, at its end. Raises OSError."""
        self._waits = False
        try:
            yield
        finally:
            self._waits = True
            self.append_logs([])


def together(study: optuna.Study) -> AbstractContextManager[None]:
    """`WholeLines.together` of a study that is kept in such a journal."""
    backend = getattr(study._storage, "_backend", None)
    return backend.together() if isinstance(backend, WholeLines) else nullcontext()


def mend_journal(path: Path) -> None:
    """Makes a journal whole after its driver died. Only for who holds the study: nobody else writes.

    The last line may be cut off, or zeros where the machine lost its power, and Optuna's lock may be left.

    Raises:
        StudyError: the last line is whole, and yet cannot be read.
    """
    path.with_name(path.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)
    if not path.exists():
        return
    with path.open("rb+") as file:
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
    """(where it begins, its bytes with the line's end)."""
    end = file.seek(0, os.SEEK_END)
    begin, tail = end, b""
    while begin > 0 and b"\n" not in tail[:-1]:
        begin = max(0, begin - block)
        file.seek(begin)
        tail = file.read(end - begin)
    line = tail[tail[:-1].rfind(b"\n") + 1 :]
    return end - len(line), line
