"""The images that datasets are made of, from a folder, drawn or photographed, each decoded once a machine."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from otter_ray.docclassifier import captures, drawing
from otter_ray.docclassifier.cache import Built, ImageTable, Pixels, cache_key, cached_table
from otter_ray.errors import DataError

# Threads here and DataLoader workers fill the cores; OpenCV's own threads would not survive their fork.
cv2.setNumThreads(0)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def load_images(root: str | Path, image_size: tuple[int, int], key: str) -> ImageTable:
    """Every image below `root`, resized to `image_size` (h, w), sorted by relative path.

    The label is the first folder below `root`, '' for a file directly in it. Upright by EXIF, RGB.
    Undecodable files are left out and named in one warning, on every call. Decodes into memory first:
    N * h * w * 3 bytes.
    DataError, which names `key` as the key to set: no such folder, or no image in it.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(
            f"{key} is {str(root)!r} but there is no such folder. Set {key} to a folder of images."
        )
    files = sorted(_scan(folder))
    if not files:
        raise DataError(
            f"{key} is {str(root)!r} but that folder holds no images ({', '.join(sorted(SUFFIXES))}). "
            f"Set {key} to a folder of images."
        )
    table = cached_table(
        cache_key("folder", str(folder), files, image_size),
        lambda: _decode_all(folder, [name for name, _, _ in files], image_size, key),
    )
    if table.skipped:
        count, names = len(table.skipped), _listed(table.skipped)
        warnings.warn(f"{folder}: {count} unreadable images left out: {names}", stacklevel=2)
    return table


def drawn_images(count: int, seed: int, image_size: tuple[int, int]) -> ImageTable:
    """The first `count` procedural documents of series `seed`, resized to `image_size` (h, w)."""

    def draw(index: int) -> Pixels:
        return captures.resize(drawing.draw_document(index, seed), image_size)

    names = [f"document_{index:05d}" for index in range(count)]
    key = cache_key("drawn", count, seed, image_size, _code(drawing))
    return cached_table(key, lambda: Built(_in_threads(draw, range(count), image_size), names, names))


def cached_captures(
    documents: ImageTable,
    chosen: Sequence[int],
    *,
    per_document: int,
    image_size: tuple[int, int],
    strength: float,
    seed: int,
) -> ImageTable:
    """`per_document` photographs of each chosen document in the order of `chosen`.

    Photograph i of a document depends on (seed, the document's name, i) alone.
    """

    def photograph(item: tuple[int, int]) -> Pixels:
        document, shot = item
        name = int.from_bytes(hashlib.sha256(documents.names[document].encode()).digest()[:8], "big")
        rng = np.random.default_rng([seed, name, shot])
        return captures.capture(documents.images[document], rng, image_size, strength)

    items = [(int(document), shot) for document in chosen for shot in range(per_document)]
    names = [f"{documents.names[document]}#{shot}" for document, shot in items]
    labels = [documents.names[document] for document, _ in items]
    key = cache_key("captures", documents.path.stem, items, image_size, strength, seed, _code(captures))
    return cached_table(key, lambda: Built(_in_threads(photograph, items, image_size), names, labels))


def _scan(folder: Path) -> Iterator[tuple[str, int, int]]:
    """(relative path, bytes, mtime in ns) of each image that is not hidden, as macOS's `._a.jpg` is."""
    for where, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                path = Path(where, name)
                stat = path.stat() if path.exists() else path.lstat()  # a broken link fails later, by name
                yield path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns


def _decode_all(folder: Path, names: list[str], image_size: tuple[int, int], key: str) -> Built:
    def decode(name: str) -> Pixels | None:
        return _decode(folder / name, image_size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(decode, names))
    good = [(name, image) for name, image in zip(names, decoded, strict=True) if image is not None]
    if not good:
        raise DataError(f"{key} is {str(folder)!r} but none of its {len(names)} images can be decoded.")
    kept = [name for name, _ in good]
    return Built(
        images=np.stack([image for _, image in good]),
        names=kept,
        labels=[name.split("/")[0] if "/" in name else "" for name in kept],
        skipped=sorted(set(names) - set(kept)),
    )


def _decode(path: Path, image_size: tuple[int, int]) -> Pixels | None:
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I;16"):  # Pillow would clip a 16-bit scan to white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return captures.resize(np.asarray(upright.convert("RGB")), image_size)
    except Exception:  # decoders raise all kinds of errors on rotten bytes
        return None


def _in_threads(make: Callable[[Any], Pixels], items: Sequence[Any], image_size: tuple[int, int]) -> Pixels:
    """uint8 [N, h, w, 3]: `make` of every item; OpenCV lets go of the interpreter lock."""
    images = np.empty((len(items), *image_size, 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, image in enumerate(pool.map(make, items)):
            images[row] = image
    return images


def _code(module: ModuleType) -> str:
    """A hash of the source of a module or package: the pixels that it makes change with it."""
    assert module.__file__ is not None
    path = Path(module.__file__)
    files = sorted(path.parent.glob("*.py")) if path.stem == "__init__" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
