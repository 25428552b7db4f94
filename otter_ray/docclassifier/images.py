"""The images that datasets are made of, from a folder, drawn or photographed, each decoded once a machine."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from otter_ray.docclassifier import captures, drawing
from otter_ray.docclassifier.cache import ImageTable, Pixels, Row, cache_key, cached_table, known_table
from otter_ray.docclassifier.listing import PATIENCE, SUFFIXES, known_digest, list_images
from otter_ray.errors import DataError
from otter_ray.train.cpus import available_cpus

T = TypeVar("T")
Made = TypeVar("Made")

# Threads here and DataLoader workers fill the cores; OpenCV's own threads would not survive their fork.
cv2.setNumThreads(0)

_AHEAD = 8  # images that each core may be ahead of the one that is written


def load_images(root: str | Path, image_size: tuple[int, int], key: str) -> ImageTable:
    """Every image below `root`, resized to `image_size` (h, w), sorted by relative path.

    The label is the first folder below `root`, '' for a file directly in it. Upright by EXIF, RGB.
    Undecodable files are left out and named in one warning, on every call. Memory does not grow with
    the folder; the cache does, by N * h * w * 3 bytes.
    DataError: no such folder or no image in it, naming `key` as the key to set; a file that is there but
    cannot be read, which another time or machine may read: what is left out must not depend on that.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(
            f"{key} is {str(root)!r} but there is no such folder. Set {key} to a folder of images."
        )
    digest = known_digest(folder)
    table = known_table(cache_key("folder", str(folder), digest, image_size)) if digest else None
    if table is None:
        found = list_images(folder)
        if not found.names:
            raise DataError(
                f"{key} is {str(root)!r} but that folder holds no images ({', '.join(sorted(SUFFIXES))}). "
                f"Set {key} to a folder of images."
            )
        table = cached_table(
            cache_key("folder", str(folder), found.digest, image_size),
            lambda: _decoded(folder, found.names, image_size, key),
        )
    if table.skipped:
        count, names = len(table.skipped), listed(table.skipped)
        warnings.warn(f"{folder}: {count} unreadable images left out: {names}", stacklevel=2)
    return table


def drawn_images(count: int, seed: int, image_size: tuple[int, int]) -> ImageTable:
    """The first `count` procedural documents of series `seed`, resized to `image_size` (h, w)."""

    def draw(index: int) -> Pixels:
        return captures.resize(drawing.draw_document(index, seed), image_size)

    names = [f"document_{index:05d}" for index in range(count)]
    key = cache_key("drawn", count, seed, image_size, _code(drawing))
    return cached_table(key, lambda: map(Row, names, names, _in_order(draw, range(count), "drawing")))


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
    return cached_table(key, lambda: map(Row, names, labels, _in_order(photograph, items, "photographing")))


def _decoded(folder: Path, names: list[str], image_size: tuple[int, int], key: str) -> Iterator[Row]:
    def decode(name: str) -> Pixels | None:
        return _decode(folder / name, image_size)

    good = 0
    for name, image in zip(names, _in_order(decode, names, f"decoding {folder}"), strict=True):
        good += image is not None
        yield Row(name, sys.intern(name.split("/")[0]) if "/" in name else "", image)
    if not good:
        raise DataError(f"{key} is {str(folder)!r} but none of its {len(names)} images can be decoded.")


def _decode(path: Path, image_size: tuple[int, int]) -> Pixels | None:
    """None where the bytes are no image, or a link leads nowhere: that is so on every machine."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc}. Make it readable, or take it away.") from exc
    try:
        with Image.open(io.BytesIO(data)) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I;16"):  # Pillow would clip a 16-bit scan to white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return captures.resize(np.asarray(upright.convert("RGB")), image_size)
    except MemoryError:
        raise
    except Exception:  # decoders raise all kinds of errors on rotten bytes
        return None


def _in_order(make: Callable[[T], Made], items: Sequence[T], doing: str) -> Iterator[Made]:
    """`make` of every item, in order and by all cores, which let go of the interpreter lock while they draw,
    decode and resize. Holds a few results a core, however slowly they are taken. Tells its progress."""
    cores = available_cpus()
    bar = tqdm(total=len(items), desc=doing, unit=" images", delay=PATIENCE, mininterval=1)
    waiting: deque[Future[Made]] = deque()
    with bar, ThreadPoolExecutor(cores) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > _AHEAD * cores:
                yield waiting.popleft().result()
                bar.update()
        for future in waiting:
            yield future.result()
            bar.update()


def _code(module: ModuleType) -> str:
    """A hash of the source of a module or package: the pixels that it makes change with it."""
    assert module.__file__ is not None
    path = Path(module.__file__)
    files = sorted(path.parent.glob("*.py")) if path.stem == "__init__" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
