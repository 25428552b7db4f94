"""A copy of a study's folder that every node and a later head can reach: on S3, GCS, or a mounted path.

Nothing is locked there. As the journal only grows, a copy that begins with the other one is newer. If neither
begins with the other, two processes wrote, and neither copy is overwritten.
"""

from __future__ import annotations

import shutil
import string
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pyarrow import fs

from otter_ray.disk import is_disk_full
from otter_ray.errors import StudyError
from otter_ray.files import atomic_write, read_bytes, read_text
from otter_ray.study.layout import (
    FINALS,
    JOURNAL,
    LOCK,
    RESTORE,
    STORAGE_FILE,
    TRIALS,
    StudyFolder,
    trial_folder,
)

# Seconds before another try, beside what the file system's own client tries.
PAUSES = (1, 5, 20)


@dataclass(frozen=True)
class Storage:
    """The copy of one study's folder. It is plain data, as it is sent to the workers.

    Attributes:
        uri: `s3://bucket/runs/CONFIG/STUDY`, `gs://...`, or an absolute path.
    """

    uri: str

    @classmethod
    def of(cls, place: str, *names: str) -> Storage:
        """Return the storage of a study.

        Args:
            place: what `--storage` names.
            names: of the folders below it.

        Raises:
            StudyError: it names no file system, or holds a secret.
        """
        _refuse_login(place, "--storage")
        root = cls(place if urlsplit(place).scheme else str(Path(place).expanduser().absolute()))
        storage = root.below(*names)
        storage.exists(JOURNAL)
        return storage

    @property
    def path(self) -> Path | None:
        """The folder, if the storage is one of this machine's file systems."""
        return None if "://" in self.uri else Path(self.uri)

    def below(self, *names: str) -> Storage:
        """Return the folder of `names` in this one."""
        if "://" not in self.uri:
            return Storage(str(Path(self.uri).joinpath(*names)))
        parts = urlsplit(self.uri)
        # Unquoted, `#` would end the path, and pyarrow reads neither a space nor a letter outside ASCII.
        path = "/".join([parts.path.rstrip("/"), *map(quote, names)])
        return Storage(urlunsplit(parts._replace(path=path)))

    def exists(self, name: str) -> bool:
        """Say whether there is a file or folder called `name`.

        Raises:
            StudyError: the storage does not answer.
        """
        system, path = _opened(self.uri)
        with _as_study_error(self.uri):
            return bool(system.get_file_info(f"{path}/{name}").type != fs.FileType.NotFound)

    def put(self, source: Path, name: str, pauses: Sequence[float] = PAUSES) -> None:
        """Upload a file. A reader sees the old one or the new one, never a part.

        Args:
            source: the file.
            name: its name there.
            pauses: seconds to wait before each further attempt.

        Raises:
            OSError: it could not be written, also after some attempts.
        """
        system, path = _opened(self.uri)
        target = f"{path}/{name}"
        for pause in (*pauses, None):
            try:
                _copy(source, system, target)
                return
            except OSError as exc:
                if pause is None or is_disk_full(exc):
                    raise
                time.sleep(pause)

    def get(self, name: str, target: Path) -> bool:
        """Download a file, or a folder with all that is in it; say whether there was one.

        Raises:
            StudyError: it cannot be read.
        """
        system, path = _opened(self.uri)
        source, local = f"{path}/{name}", fs.LocalFileSystem()
        with _as_study_error(self.uri):
            kind = system.get_file_info(source).type
            if kind == fs.FileType.NotFound:
                return False
            # pyarrow makes the folders of a folder that it copies, but not of a file.
            (target if kind == fs.FileType.Directory else target.parent).mkdir(parents=True, exist_ok=True)
            fs.copy_files(source, str(target), source_filesystem=system, destination_filesystem=local)
            return True

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is no such file.

        Raises:
            StudyError: the storage does not answer.
        """
        system, path = _opened(self.uri)
        with _as_study_error(self.uri):
            try:
                with system.open_input_stream(f"{path}/{name}") as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Delete a file.

        Raises:
            OSError: there is none, or it could not be deleted.
        """
        system, path = _opened(self.uri)
        system.delete_file(f"{path}/{name}")

    def put_study(self, folder: Path) -> None:
        """Upload everything but the trials, which the workers upload themselves.

        Raises:
            OSError: it could not be written.
            StudyError: another process has written there meanwhile.
        """
        self.put_journal(folder)
        for file in folder.rglob("*"):
            name = file.relative_to(folder)
            # The journal went first; what is left of its name are locks, which would lock a later head out.
            own = name.parts[0] not in (TRIALS, FINALS) and not name.name.startswith((JOURNAL, LOCK))
            if own and file.is_file():
                self.put(file, str(name))
        if (folder / FINALS / JOURNAL).exists():
            self.below(FINALS).put_study(folder / FINALS)

    def put_journal(self, folder: Path) -> None:
        """Upload the journal's complete lines; a line that is being written may yet be taken back.

        Raises:
            OSError: it could not be written.
            StudyError: another process has written there meanwhile.
        """
        here, there = read_bytes(folder / JOURNAL, RESTORE) or b"", self.read(JOURNAL)
        here = here[: here.rfind(b"\n") + 1]
        if there is not None and not here.startswith(there):
            raise _two_writers(self.uri, folder)
        if here != there:
            with tempfile.NamedTemporaryFile() as copy:
                copy.write(here)
                copy.flush()
                self.put(Path(copy.name), JOURNAL)

    def get_study(self, folder: Path) -> None:
        """Download the study into `folder`, if its copy is newer than the folder.

        Raises:
            StudyError: there is no such study in either place, or it went on in both.
        """
        self._get_search(folder)
        if self.below(FINALS).exists(JOURNAL):
            self.below(FINALS)._get_search(folder / FINALS)

    def _get_search(self, folder: Path) -> None:
        there = self.read(JOURNAL)
        here = read_bytes(folder / JOURNAL, RESTORE)
        if not (there or here) and self.exists(trial_folder(0)):
            raise StudyError(f"{self.uri}/{JOURNAL}: is missing or empty, but there are trials. {RESTORE}")
        if there is None and here is None:
            raise StudyError(f"there is no study at {self.uri}. Look at --name and --storage.")
        if there is None or (here is not None and here.startswith(there)):
            return
        if here is not None and not there.startswith(here):
            raise _two_writers(self.uri, folder)
        system, path = _opened(self.uri)
        with _as_study_error(self.uri):
            entries = system.get_file_info(fs.FileSelector(path))
        for entry in entries:
            if entry.base_name not in (TRIALS, JOURNAL, FINALS):
                self.get(entry.base_name, folder / entry.base_name)
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        # Last: with it, everything is here.
        with atomic_write(folder / JOURNAL) as partial:
            partial.write_bytes(there)


class FolderUploader:
    """Keeps the copy of one folder of a study in the storage up to date, and sends only what has changed.

    Args:
        storage: the study's.
        folder: what is copied.
        name: its place in the storage, relative to the study's folder.
    """

    def __init__(self, storage: Storage, folder: Path, name: str) -> None:
        self.storage, self.folder, self.name = storage, folder, name
        self._sent: dict[Path, int] = {}

    def push(self, which: str = "**/*") -> None:
        """Upload the new files that fit a glob pattern and are not empty.

        Raises:
            OSError: the storage could not be written, also after some tries.
        """
        for file in sorted(self.folder.glob(which)):
            # A crash report is empty where nothing has crashed.
            if not file.is_file() or not (found := file.stat()).st_size:
                continue
            if self._sent.get(file) != (now := found.st_mtime_ns):
                self.storage.put(file, f"{self.name}/{file.relative_to(self.folder)}")
                self._sent[file] = now


def storage_of(folder: StudyFolder) -> Storage | None:
    """Return where a study's copy is kept; None if the folder is the only place.

    Raises:
        FileError: the file that says so cannot be read.
        StudyError: the folder names a place that is no copy of this study: it would be written to.
    """
    file = folder.path / STORAGE_FILE
    uri = read_text(file, "Write the study's s3://..., gs://... or path into it.")
    if uri is None:
        return None
    _refuse_login(uri, str(file))
    storage = Storage(uri)
    place = unquote(urlsplit(storage.uri).path) if "://" in storage.uri else storage.uri
    name = "/".join(folder.path.parts[-2:])
    if not place.endswith(f"/{name}"):
        raise StudyError(
            f"{file} names {storage.uri}, which is no copy of {name}. Correct it: the study's --storage with "
            f"/{name} behind it."
        )
    return storage


def _refuse_login(place: str, where: str) -> None:
    parts = urlsplit(place)
    if parts.password or parts.username:
        raise StudyError(
            f"{where} holds a secret, which Ray would show. Leave it to each node's environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or to its instance's role."
        )


def delete_everywhere(name: str, folder: StudyFolder, storage: Storage | None) -> None:
    """Delete a file of a study, if it exists, in its folder and in its storage.

    Args:
        name: relative to the study's folder.
        folder: the study's.
        storage: of the study's copy, if there is one.

    Raises:
        OSError: it could not be deleted.
        StudyError: the storage does not answer.
    """
    (folder.path / name).unlink(missing_ok=True)
    if storage is not None and storage.exists(name):
        storage.remove(name)


@lru_cache(maxsize=8)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path in it.

    Raises:
        StudyError: the URI names no file system that can be used.
    """
    try:
        if "://" not in uri:
            return fs.LocalFileSystem(), uri
        # pyarrow reads URIs alone, in which the name of a config or study may have to be quoted.
        system, path = fs.FileSystem.from_uri(quote(uri, safe=string.punctuation))
    except (OSError, ValueError) as exc:
        raise StudyError(f"--storage {uri} cannot be used: {exc}. Give s3://BUCKET/PATH, or a path.") from exc
    return system, path


@contextmanager
def _as_study_error(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StudyError(f"--storage {uri} cannot be read: {exc}") from exc


def _copy(source: Path, system: fs.FileSystem, target: str) -> None:
    if isinstance(system, fs.LocalFileSystem):
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as partial:
            shutil.copyfile(source, partial)
    else:
        # An object appears when it is whole.
        fs.copy_files(
            str(source), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system
        )


def _two_writers(uri: str, folder: Path) -> StudyError:
    return StudyError(
        f"the study continued both in {folder} and at {uri}. Move one of the two away, and resume the other."
    )
