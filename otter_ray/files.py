"""Files: written whole or not at all, and what an export leaves."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It takes that one's place, on the disk, where the block ends well.

    Whoever reads sees the old file or the new one; what a full disk or a fault leaves is deleted.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def to_disk(file: Path) -> None:
    """A file that is renamed before its content is on the disk may be empty after a power cut."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def exports_in(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The ONNX files of ours in a folder, each with what the JSON beside it says."""
    beside = {onnx: onnx.with_suffix(".json") for onnx in folder.glob("*.onnx")}
    return [(onnx, json.loads(file.read_text())) for onnx, file in beside.items() if file.is_file()]
