"""Tables of decoded images on disk, shared by every process of a machine.

One table is one Arrow IPC file `KEY.arrow` under `$OTTER_RAY_CACHE` (`~/.cache/otter_ray` without it).
KEY is a hash of everything that the pixels depend on, so a table never has to be invalidated.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from otter_ray.docclassifier import duplicates
from otter_ray.errors import DataError

Pixels = NDArray[np.uint8]

_FORMAT = 1  # raise it when the layout of the file changes


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Decoded images and what is known of them. Pickles as the path of its file.

    images: uint8 [N, h, w, 3] RGB, read-only, a view of the memory-mapped file.
    thumbnails: float32 [N, 256] of the images (see `duplicates`), likewise.
    names, labels: N strings each. skipped: names of files that could not be decoded.
    """

    path: Path
    images: Pixels
    thumbnails: NDArray[np.float32]
    names: list[str]
    labels: list[str]
    skipped: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[Callable[[Path], ImageTable], tuple[Path]]:
        return _read, (self.path,)


@dataclass(frozen=True, eq=False)
class Built:
    """What a builder hands to the cache: `ImageTable` before it is a file."""

    images: Pixels
    names: Sequence[str]
    labels: Sequence[str]
    skipped: Sequence[str] = ()


def cached_table(key: str, build: Callable[[], Built]) -> ImageTable:
    """The table of `key`, from the cache or else from `build()`, which then runs in one process only.

    An unreadable file is built again. A cache folder that cannot be written is replaced by one below
    the temporary directory, with a warning. DataError: the disk is full.
    """
    path = _cache_folder() / f"{key}.arrow"
    table = _read_if_sound(path)
    if table is None:
        path = _writable(path)
        with filelock.FileLock(path.with_suffix(".lock")):
            table = _read_if_sound(path) or _write(path, build())  # another process may have built it
    return table


def cache_key(*parts: Any) -> str:
    """A file name for whatever `parts`, which must be JSON, say."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:32]


def _cache_folder() -> Path:
    return Path(os.environ.get("OTTER_RAY_CACHE") or Path.home() / ".cache" / "otter_ray").absolute()


def _writable(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as exc:
        spare = Path(tempfile.gettempdir()) / f"otter_ray-{os.getuid()}"
        spare.mkdir(mode=0o700, exist_ok=True)
        warnings.warn(
            f"Cannot write the image cache ({exc}): using {spare}. Set OTTER_RAY_CACHE.", stacklevel=3
        )
        return spare / path.name


def _read_if_sound(path: Path) -> ImageTable | None:
    try:
        return _read(path)
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None  # missing, truncated or not ours: the caller builds it


def _read(path: Path) -> ImageTable:
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    about = batch.schema.metadata
    shape = json.loads(about[b"shape"])
    return ImageTable(
        path=path,
        images=np.frombuffer(batch.column("image").buffers()[1], np.uint8).reshape(len(batch), *shape),
        thumbnails=np.frombuffer(batch.column("thumbnail").buffers()[1], np.float32).reshape(len(batch), -1),
        names=batch.column("name").to_pylist(),
        labels=batch.column("label").to_pylist(),
        skipped=json.loads(about[b"skipped"]),
    )


def _write(path: Path, built: Built) -> ImageTable:
    """Under another name first, so that no reader ever sees half a file."""
    table = _arrow_table(built)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise DataError(f"Cannot write {path}: {exc}. Make room, or set OTTER_RAY_CACHE.") from exc
    finally:
        Path(temporary).unlink(missing_ok=True)
    return _read(path)


def _arrow_table(built: Built) -> pa.Table:
    count, *shape = built.images.shape
    small = duplicates.thumbnails(built.images)
    about = {"shape": json.dumps(shape), "skipped": json.dumps(list(built.skipped))}
    columns = {
        "image": _bytes_column(built.images, count),
        "thumbnail": _bytes_column(small, count),
        "name": pa.array(built.names, pa.string()),
        "label": pa.array(built.labels, pa.string()),
    }
    return pa.table(columns).replace_schema_metadata(about)


def _bytes_column(rows: NDArray[Any], count: int) -> pa.Array:
    kind = pa.binary(rows.nbytes // count)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(np.ascontiguousarray(rows))])
