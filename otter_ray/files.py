"""Files: what they can be called, how they are written atomically, and how they are read back."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from otter_ray.disk import flush_to_disk
from otter_ray.errors import FileError

MAX_NAME_BYTES = 200  # file systems allow 255, and suffixes are added
NAME_RULE = (
    "Use letters, digits and other characters, but no / or \\, no space at an end, and no . or - at the "
    f"beginning. It can have at most {MAX_NAME_BYTES} bytes."
)


def is_name(text: str) -> bool:
    """Return whether a text from outside can be one component of a path, and nothing but that."""
    return (
        text.isprintable()
        and text == text.strip()
        and not text.startswith((".", "-"))
        and not {"/", "\\"} & {*text}
        and 0 < len(text.encode()) <= MAX_NAME_BYTES
    )


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and move the file to `path` if the block succeeds.

    A reader sees the old file or the new one, never half of it. If the block fails, the temporary file is
    deleted.

    Args:
        path: the file to create or replace.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        flush_to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_bytes(file: Path, remedy: str) -> bytes | None:
    """Read a file that otter_ray has written; None if it does not exist.

    Args:
        file: the file.
        remedy: what to do if it cannot be read.

    Raises:
        FileError: it cannot be read, or it is something else than a file. Reading a FIFO could wait for ever,
            reading a device never end.
    """
    try:
        with open(file, "rb", opener=_open_at_once) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise FileError(f"{file}: is not a regular file. {remedy}")
            return opened.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise FileError(f"{file}: cannot be read: {exc.strerror}. {remedy}") from exc


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(file: Path, remedy: str) -> str | None:
    """Read a text that otter_ray has written; None if it does not exist. Arguments are those of `read_bytes`.

    Raises:
        FileError: it cannot be read, or holds no text.
    """
    data = read_bytes(file, remedy)
    if data is None:
        return None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as exc:
        raise FileError(f"{file}: is not UTF-8 text. {remedy}") from exc
    if not text or "\0" in text:
        raise FileError(f"{file}: holds no text. {remedy}")
    return text


def read_json(file: Path, shape: type[BaseModel], remedy: str) -> dict[str, Any] | None:
    """Read a JSON object that otter_ray has written; None if the file does not exist.

    Args:
        file: the file.
        shape: what must be in it, and whether other keys are kept.
        remedy: what to do if it cannot be read.

    Raises:
        FileError: it cannot be read, is not JSON, or has another shape.
    """
    data = read_bytes(file, remedy)
    if data is None:
        return None
    try:
        return shape.model_validate_json(data, strict=True).model_dump(exclude_unset=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in (".".join(map(str, first["loc"])),) if part)
        raise FileError(f"{file}: {place}{first['msg']}. {remedy}") from exc
