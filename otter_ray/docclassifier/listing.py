"""Which images a folder holds, as a digest that changes when one of them does.

Each trial asks. A million files take seconds to look at, so a process that has looked at a large folder does
so again only once a folder in it has changed: images were added, removed, renamed or replaced by a rename.
What was overwritten in place in a large folder the next process sees.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
LARGE = 20_000  # files; fewer are looked at in 0.1 s

PATIENCE = 5.0  # seconds without a progress bar


@dataclass(frozen=True)
class Listing:
    """The images below a folder.

    names: relative paths, sorted. digest: of names, sizes and times of change.
    folders: each folder -> its time of change in ns, taken before it was looked into.
    """

    names: list[str]
    digest: str
    folders: dict[str, int]


_known: dict[Path, tuple[str, dict[str, int]]] = {}


def list_images(folder: Path) -> Listing:
    """Looks at every file below the folder. Those that begin with a dot, as macOS's `._a.jpg`, are none."""
    folders: dict[str, int] = {}
    digest, names = hashlib.sha256(), list[str]()
    # A string for each file, which sorts like its name: a million tuples are three times as large.
    for line in sorted(_scan(folder, folders)):
        digest.update(line.encode(errors="surrogateescape") + b"\n")
        names.append(line.partition("\0")[0])
    found = Listing(names, digest.hexdigest(), folders)
    if len(names) > LARGE:
        _known[folder] = found.digest, folders
    return found


def known_digest(folder: Path) -> str | None:
    """The digest of a large folder that this process has listed, if no folder in it has changed since."""
    digest, folders = _known.get(folder, (None, {}))
    return digest if all(_changed(path) == time for path, time in folders.items()) else None


def _scan(folder: Path, folders: dict[str, int]) -> Iterator[str]:
    """`RELATIVE PATH \\0 BYTES \\0 MTIME in ns` of each image, while `folders` fills."""
    bar = tqdm(desc=f"listing {folder}", unit=" files", delay=PATIENCE, mininterval=1)
    with bar:
        folders[str(folder)] = _changed(str(folder))
        for where, below, names in os.walk(folder, followlinks=True):
            folders |= {path: _changed(path) for path in (f"{where}/{name}" for name in below)}
            prefix = "" if where == str(folder) else os.path.relpath(where, folder) + "/"
            for name in names:
                if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                    stat = _stat(f"{where}/{name}")
                    yield f"{prefix}{name}\0{stat.st_size}\0{stat.st_mtime_ns}"
            bar.update(len(names))


def _stat(path: str) -> os.stat_result:
    """Of a broken link its own: it fails later, by name."""
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def _changed(path: str) -> int:
    """0 for a folder that is gone."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
