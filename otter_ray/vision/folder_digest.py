"""Digest the images of a folder: the digest changes when one of the images does.

Each trial asks for it. A million files take seconds to list, so a process that has listed a large folder does
so again only if a folder in it has changed: images were added, removed, renamed or replaced by a rename. A
file that is overwritten in place in a large folder is noticed by the next process.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
LARGE = 20_000  # files; fewer are listed in 0.1 s

PATIENCE = 5.0  # seconds without a progress bar


@dataclass(frozen=True)
class Listing:
    """The images below a folder.

    Attributes:
        names: Relative paths, sorted, as `os.fsdecode` makes them of a file's bytes.
        digest: Digest of names, sizes and times of change.
        folders: Each folder -> its time of change in ns, read before the folder was listed.
    """

    names: list[str]
    digest: str
    folders: dict[str, int]


_known: dict[Path, tuple[str, dict[str, int]]] = {}


def list_images(folder: Path) -> Listing:
    """List every image below the folder, except files that begin with a dot, such as macOS's `._a.jpg`."""
    folders: dict[str, int] = {}
    digest, names = hashlib.sha256(), list[str]()
    # A string for each file, which sorts like its name: a million tuples would be three times as large.
    for line in sorted(_scan(folder, folders)):
        digest.update(line.encode(errors="surrogateescape") + b"\n")
        names.append(line.partition("\0")[0])
    found = Listing(names, digest.hexdigest(), folders)
    if len(names) > LARGE:
        _known[folder] = found.digest, folders
    return found


def known_digest(folder: Path) -> str | None:
    """Return the digest of a large folder that this process has listed, if no folder in it has changed."""
    digest, folders = _known.get(folder, (None, {}))
    return digest if all(_changed(path) == time for path, time in folders.items()) else None


def _scan(folder: Path, folders: dict[str, int]) -> Iterator[str]:
    """Yield `RELATIVE PATH \\0 BYTES \\0 MTIME in ns` of each image, and fill `folders`.

    A folder is entered once, however many links lead to it, and under its own name if that is below too:
    links are followed last, in the order of their names.
    """
    entered = set[tuple[int, int]]()
    waiting, linked = [str(folder)], list[str]()
    with tqdm(desc=f"listing {folder}", unit=" files", delay=PATIENCE, mininterval=1) as bar:
        while waiting or linked:
            where = waiting.pop() if waiting else heapq.heappop(linked)
            try:
                stat, entries = os.stat(where), list(os.scandir(where))
            except OSError:
                continue  # gone, or not ours to read
            if (stat.st_dev, stat.st_ino) in entered:
                continue
            entered.add((stat.st_dev, stat.st_ino))
            folders[where] = stat.st_mtime_ns
            prefix = "" if where == str(folder) else os.path.relpath(where, folder) + "/"
            for entry in entries:
                if _is_folder(entry):
                    if entry.is_symlink():
                        heapq.heappush(linked, entry.path)
                    else:
                        waiting.append(entry.path)
                    continue
                bar.update()
                if is_image(entry.name):
                    found = _stat(entry.path)
                    yield f"{prefix}{entry.name}\0{found.st_size}\0{found.st_mtime_ns}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_image(name: str) -> bool:
    """Return whether a file of that name is listed."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def _stat(path: str) -> os.stat_result:
    """Return a file's stat; for a broken link the link's own: it fails later, by name."""
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def _changed(path: str) -> int:
    """Return a folder's time of change; 0 if it is gone."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
