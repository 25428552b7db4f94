"""Disks: whether one is full, what to say then, and files that survive a power cut.

What follows from a full disk: a trial reports it and ends (`tune/worker/trainable.py`), the study ends and
counts no such trial (`tune/search/retry_policy.py`), or it stops because its journal cannot be written
(`tune/search/stopping.py`). A command says so in one line (`cli.py`).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def is_disk_full(exc: BaseException | None) -> bool:
    """Return whether an error comes from a full disk or a used-up quota."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def disk_full_message(folder: Path, checkpoints: Iterable[Path]) -> str:
    """Say that a disk is full, and how much room a trial needs if that is known.

    Args:
        folder: a folder on that disk; it may be missing.
        checkpoints: checkpoints of the study's trials; any of them may have been deleted meanwhile.
    """
    sizes = []
    for checkpoint in checkpoints:
        with suppress(FileNotFoundError):
            sizes.append(checkpoint.stat().st_size)
    free = shutil.disk_usage(nearest_folder(folder)).free
    text = f"the disk of {folder} is full ({free / 1e6:.1f} MB free)"
    if not sizes:
        return text
    # The last one, the best one, and the one that is being written to replace either.
    return f"{text}: each trial that runs needs {3 * max(sizes) / 1e6:.1f} MB for its checkpoints"


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or its nearest parent that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def flush_to_disk(file: Path) -> None:
    """Write a file's content to the disk.

    A file that is renamed before its content is on the disk may be empty after a power cut.
    """
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
