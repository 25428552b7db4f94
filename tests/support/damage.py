"""What may have become of a file since it was written."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def torn(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def zeroed(file: Path) -> None:
    """As after a power cut: the length is right, the content never came."""
    file.write_bytes(b"\0" * file.stat().st_size)


def scrambled(file: Path) -> None:
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def another(file: Path) -> None:
    """Valid JSON and YAML of somebody else."""
    file.write_text('[1, {"a": "b"}]\n')


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def a_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def anothers(file: Path) -> None:
    """Read by `as_nobody`."""
    file.chmod(0)


DAMAGES = [torn, emptied, zeroed, scrambled, another, a_folder, a_fifo, a_device, a_loop, anothers]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything during the block."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
