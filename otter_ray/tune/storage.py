"""A study's folder where every node and a later head can reach it: S3, GCS, or a mounted path.

Nothing is locked there. The journal only grows, so that of two copies the one that begins with the other is
the newer; where neither does, two processes wrote, and none is overwritten.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pyarrow import fs

from otter_ray.errors import StudyError, is_full
from otter_ray.files import written_whole
from otter_ray.report.finals import FINALS
from otter_ray.train.report import kept_as

JOURNAL = "study.journal"
TRIALS = "trials"
# Seconds before another try, beside what the file system's own client tries.
PAUSES = (1, 5, 20)


def kept_checkpoint(trial: int, epoch: int) -> str:
    """Where in a study's folder a trial's checkpoint of an epoch is kept for others to begin from."""
    return f"{TRIALS}/{trial:04d}/checkpoints/{kept_as(epoch)}"


@dataclass(frozen=True)
class Storage:
    """One study's folder. Plain data: it travels to the slots.

    Attributes:
        uri: `s3://bucket/runs/CONFIG/STUDY`, `gs://...`, or an absolute path.
    """

    uri: str

    @classmethod
    def of(cls, place: str, *names: str) -> Storage:
        """That of `names` below what --storage names.

        Raises:
            StudyError: it names no file system, or holds a secret.
        """
        parts = urlsplit(place)
        if parts.password or parts.username:
            raise StudyError(
                "--storage holds a secret, which Ray would show. Leave it to the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or to the instance's role."
            )
        root = cls(place if parts.scheme else str(Path(place).expanduser().absolute()))
        storage = root.below(*names)
        storage.exists(JOURNAL)
        return storage

    def below(self, *names: str) -> Storage:
        """The folder of `names` in this one."""
        if "://" not in self.uri:
            return Storage(str(Path(self.uri).joinpath(*names)))
        parts = urlsplit(self.uri)
        return Storage(urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names]))))

    def exists(self, name: str) -> bool:
        """Whether there is something called `name`. Raises StudyError."""
        system, path = _opened(self.uri)
        with _told(self.uri):
            return bool(system.get_file_info(f"{path}/{name}").type != fs.FileType.NotFound)

    def put(self, source: Path, name: str, pauses: Sequence[float] = PAUSES) -> None:
        """Copies a file there. A reader sees the old one or the new one, never a part.

        Args:
            pauses: seconds before another try, of each.

        Raises:
            OSError: it could not be written, also after some tries.
        """
        system, path = _opened(self.uri)
        target = f"{path}/{name}"
        for pause in (*pauses, None):
            try:
                _copy(source, system, target)
                return
            except OSError as exc:
                if pause is None or is_full(exc):
                    raise
                time.sleep(pause)

    def get(self, name: str, target: Path) -> bool:
        """Copies a file, or a folder with all that is in it, from there; whether there was one.

        Raises:
            StudyError: it cannot be read.
        """
        system, path = _opened(self.uri)
        source, local = f"{path}/{name}", fs.LocalFileSystem()
        with _told(self.uri):
            kind = system.get_file_info(source).type
            if kind == fs.FileType.NotFound:
                return False
            # pyarrow makes the folders of a folder that it copies, but not of a file.
            (target if kind == fs.FileType.Directory else target.parent).mkdir(parents=True, exist_ok=True)
            fs.copy_files(source, str(target), source_filesystem=system, destination_filesystem=local)
            return True

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none. Raises StudyError."""
        system, path = _opened(self.uri)
        with _told(self.uri):
            try:
                with system.open_input_stream(f"{path}/{name}") as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Deletes a file, which must be there. Raises OSError."""
        system, path = _opened(self.uri)
        system.delete_file(f"{path}/{name}")

    def put_study(self, folder: Path) -> None:
        """Copies everything but the trials, which the slots bring themselves. Raises StudyError, OSError."""
        self.put_journal(folder)
        for file in folder.rglob("*"):
            name = file.relative_to(folder)
            # The journal went first; what is left of its name are locks, which would lock a later head out.
            own = name.parts[0] not in (TRIALS, FINALS) and not name.name.startswith((JOURNAL, ".lock"))
            if own and file.is_file():
                self.put(file, str(name))
        if (folder / FINALS / JOURNAL).exists():
            self.below(FINALS).put_study(folder / FINALS)

    def put_journal(self, folder: Path) -> None:
        """Copies the journal's whole lines: one that is being written may yet be taken back.

        Raises:
            OSError: it could not be written.
            StudyError: another process has written there meanwhile.
        """
        here, there = (folder / JOURNAL).read_bytes(), self.read(JOURNAL)
        here = here[: here.rfind(b"\n") + 1]
        if there is not None and not here.startswith(there):
            raise _two_writers(self.uri, folder)
        if here != there:
            with tempfile.NamedTemporaryFile() as copy:
                copy.write(here)
                copy.flush()
                self.put(Path(copy.name), JOURNAL)

    def get_study(self, folder: Path) -> None:
        """Makes `folder` the study as it stands there, where it is further on there than here.

        Raises:
            StudyError: there is no such study in either place, or it went on in both.
        """
        self._get_search(folder)
        if self.below(FINALS).exists(JOURNAL):
            self.below(FINALS)._get_search(folder / FINALS)

    def _get_search(self, folder: Path) -> None:
        there = self.read(JOURNAL)
        here = (folder / JOURNAL).read_bytes() if (folder / JOURNAL).exists() else None
        if there is None and here is None:
            raise StudyError(f"there is no study at {self.uri}. Look at --name and --storage.")
        if there is None or (here is not None and here.startswith(there)):
            return
        if here is not None and not there.startswith(here):
            raise _two_writers(self.uri, folder)
        system, path = _opened(self.uri)
        with _told(self.uri):
            entries = system.get_file_info(fs.FileSelector(path))
        for entry in entries:
            if entry.base_name not in (TRIALS, JOURNAL, FINALS):
                self.get(entry.base_name, folder / entry.base_name)
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        # Last: with it, everything is here.
        with written_whole(folder / JOURNAL) as partial:
            partial.write_bytes(there)


class Mirror:
    """Keeps a folder of a study up to date there; what has not changed is not sent again."""

    def __init__(self, storage: Storage, folder: Path, name: str) -> None:
        self.storage, self.folder, self.name = storage, folder, name
        self._sent: dict[Path, int] = {}

    def push(self, which: str = "**/*") -> None:
        """Copies what is new, of the files that fit a glob pattern. Raises OSError."""
        for file in sorted(self.folder.glob(which)):
            if file.is_file() and self._sent.get(file) != (now := file.stat().st_mtime_ns):
                self.storage.put(file, f"{self.name}/{file.relative_to(self.folder)}")
                self._sent[file] = now


@lru_cache(maxsize=8)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system, and the path in it. Raises StudyError."""
    try:
        if "://" not in uri:
            return fs.LocalFileSystem(), uri
        system, path = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as exc:
        raise StudyError(f"--storage {uri} cannot be used: {exc}. Give s3://BUCKET/PATH, or a path.") from exc
    return system, path


@contextmanager
def _told(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StudyError(f"--storage {uri} cannot be read: {exc}") from exc


def _copy(source: Path, system: fs.FileSystem, target: str) -> None:
    if isinstance(system, fs.LocalFileSystem):
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(place) as partial:
            shutil.copyfile(source, partial)
    else:
        # An object appears when it is whole.
        fs.copy_files(
            str(source), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system
        )


def _two_writers(uri: str, folder: Path) -> StudyError:
    return StudyError(
        f"the study went on both in {folder} and at {uri}. Move one of the two away, and resume the other."
    )
