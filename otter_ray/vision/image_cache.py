"""Tables of decoded images on disk, shared by every process of a machine.

One table is one Arrow IPC file `KEY.arrow` under `$OTTER_RAY_CACHE` (`~/.cache/otter_ray` without it).
KEY is a hash of everything that the pixels depend on, so a table never has to be invalidated. A table may
be larger than memory, both while it is built and afterwards: the kernel can drop its pages.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import filelock
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from otter_ray.errors import DataError
from otter_ray.user_folders import private_folder
from otter_ray.vision import near_duplicates

Pixels = NDArray[np.uint8]

_FORMAT = 2  # raise it when the layout of the file changes
_STRETCH = 32 * 2**20  # bytes that are copied at once


class Row(NamedTuple):
    """One image from a builder.

    Attributes:
        name: Its name.
        label: Its label.
        image: Its pixels, uint8 [h, w, 3]; None for a file that is left out.
        reason: Why it is left out; empty if its bytes are no image.
    """

    name: str
    label: str
    image: Pixels | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Decoded images and what is known about them. Pickles as the path of its file.

    Attributes:
        path: The table's file.
        batch: Its content.
        images: uint8 [N, h, w, 3] RGB, read-only, a view of the memory-mapped file.
        thumbnails: The images' thumbnails, uint8 [N, 256] (see `near_duplicates`), also a view.
        skipped: Names of files that are left out, each with the reason unless its bytes are no image.
    """

    path: Path
    batch: pa.RecordBatch
    images: Pixels
    thumbnails: NDArray[np.uint8]
    skipped: list[str]

    @cached_property
    def names(self) -> list[str]:
        """N names, made on first use: a million strings are 0.1 GB in each process."""
        return list(self.batch.column("name").to_pylist())

    @cached_property
    def labels(self) -> list[str]:
        """N labels, made on first use."""
        return list(self.batch.column("label").to_pylist())

    def __len__(self) -> int:
        return len(self.images)

    def __reduce__(self) -> tuple[Callable[[Path], ImageTable], tuple[Path]]:
        return read_table, (self.path,)


def cached_table(key: str, build: Callable[[], Iterable[Row]]) -> ImageTable:
    """Return the table of `key` from the cache, or build it from `build()`'s rows, in one process only.

    Building needs disk space for twice the table. An unreadable file is built again. A cache folder that
    cannot be written is replaced by one below the temporary directory, with a warning.

    Args:
        key: The table's name.
        build: Returns the rows, all of one shape and at least one with an image. They are used one by one and
            never held.

    Raises:
        DataError: The disk is full.
    """
    table = known_table(key)
    if table is None:
        path = _writable(_path(key))
        with filelock.FileLock(path.with_suffix(".lock")):
            table = _read_if_sound(path) or _write(path, build())  # another process may have built it
    return table


def known_table(key: str) -> ImageTable | None:
    """Return the table of `key`, if it is in the cache."""
    return _read_if_sound(_path(key))


def cache_key(*parts: Any) -> str:
    """Return a file name that depends on `parts`, which must be JSON."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:32]


def _path(key: str) -> Path:
    try:
        folder = Path(os.environ.get("OTTER_RAY_CACHE") or Path.home() / ".cache" / "otter_ray")
    except RuntimeError:  # HOME is not set, and this machine does not know the user
        folder = private_folder()
    return folder.absolute() / f"{key}.arrow"


def _writable(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as exc:
        spare = private_folder()
        warnings.warn(
            f"cannot write the image cache ({exc}): using {spare}. Set OTTER_RAY_CACHE.", stacklevel=3
        )
        return spare / path.name


def _read_if_sound(path: Path) -> ImageTable | None:
    try:
        return read_table(path)
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None  # missing, truncated or of another format: the caller builds it


def read_table(path: Path) -> ImageTable:
    """Map a table's file, without reading it."""
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    about = batch.schema.metadata
    shape = json.loads(about[b"shape"])
    return ImageTable(
        path=path,
        batch=batch,
        images=np.frombuffer(batch.column("image").buffers()[1], np.uint8).reshape(len(batch), *shape),
        thumbnails=np.frombuffer(batch.column("thumbnail").buffers()[1], np.uint8).reshape(len(batch), -1),
        skipped=json.loads(about[b"skipped"]),
    )


def _write(path: Path, rows: Iterable[Row]) -> ImageTable:
    """Write a table under another name and rename it, so that no reader ever sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file, _scratch(path) as pixels, _scratch(path) as thumbnails:
            table, mapped = _arrow_table(rows, pixels, thumbnails)
            with pa.PythonFile(_Sink(file, mapped)) as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise DataError(f"cannot write {path}: {exc}. Free some disk space, or set OTTER_RAY_CACHE.") from exc
    finally:
        Path(temporary).unlink(missing_ok=True)
    return read_table(path)


def _scratch(path: Path) -> IO[bytes]:
    """Open a file without a name on the same disk: nothing of it stays, whatever happens."""
    return tempfile.TemporaryFile(dir=path.parent)


class _Sink(io.RawIOBase):
    """Writes to `file` and releases what was read of `mapped`: mapped pages count as memory in use."""

    def __init__(self, file: IO[bytes], mapped: Sequence[mmap.mmap]) -> None:
        self._file, self._mapped = file, mapped

    def writable(self) -> bool:
        """Return True: pyarrow asks."""
        return True

    def write(self, data: Any) -> int:
        """Write all of the buffer."""
        view = memoryview(data)
        for start in range(0, len(view), _STRETCH):
            self._file.write(view[start : start + _STRETCH])
            for mapped in self._mapped:
                mapped.madvise(mmap.MADV_DONTNEED)
        return len(view)


def _arrow_table(
    rows: Iterable[Row], pixels: IO[bytes], thumbnails: IO[bytes]
) -> tuple[pa.Table, list[mmap.mmap]]:
    """Return the rows' table and the mappings of the two files that its large columns are in.

    Images go to these files first, not into memory.
    """
    names, labels, skipped, shape = list[str](), list[str](), list[str](), tuple[int, ...]()
    for name, label, image, reason in rows:
        if image is None:
            skipped.append(f"{name} ({reason})" if reason else name)
            continue
        shape = image.shape
        pixels.write(image.tobytes())
        thumbnails.write(near_duplicates.thumbnail(image).tobytes())
        names.append(name)
        labels.append(label)
    mapped = [_mapped(pixels), _mapped(thumbnails)]
    columns = {
        "image": _bytes_column(mapped[0], len(names)),
        "thumbnail": _bytes_column(mapped[1], len(names)),
        "name": pa.array(names, pa.string()),
        "label": pa.array(labels, pa.string()),
    }
    about = {"shape": json.dumps(shape), "skipped": json.dumps(skipped)}
    return pa.table(columns).replace_schema_metadata(about), mapped


def _mapped(file: IO[bytes]) -> mmap.mmap:
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _bytes_column(mapped: mmap.mmap, count: int) -> pa.Array:
    """Return a column of `count` rows of equal length that fill the file."""
    kind = pa.binary(len(mapped) // count)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(mapped)])
