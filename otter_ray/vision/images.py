"""The images of data sets, from a folder, drawn or photographed, each decoded once per machine."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from stat import S_ISREG
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from otter_ray.cpus import available_cpus
from otter_ray.errors import DataError
from otter_ray.formatting import file_name
from otter_ray.vision import camera, drawing
from otter_ray.vision.folder_digest import PATIENCE, SUFFIXES, known_digest, list_images
from otter_ray.vision.image_cache import ImageTable, Pixels, Row, cache_key, cached_table, known_table

T = TypeVar("T")
Made = TypeVar("Made")

# Threads here and DataLoader workers use all cores. OpenCV's own threads would not survive a fork.
cv2.setNumThreads(0)

# A file or an image beyond these is left out: one alone could take all memory, once for each core.
MAX_BYTES = 2**29
MAX_PIXELS = 150_000_000  # A0 at 300 dots per inch has 140 million
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow warns of half as many
TOO_LARGE = f"more than {MAX_PIXELS // 10**6} million pixels"

_AHEAD = 8  # images that each core may be ahead of the one that is written


def load_images(
    root: str | Path, image_size: tuple[int, int], key: str, resizing: str = camera.AREA
) -> ImageTable:
    """Load every image below `root`, sorted by relative path, upright by EXIF, in RGB.

    Files that cannot be decoded, are no regular files or are too large are left out and named in one warning,
    on every call. Memory does not grow with the folder; the cache does, by N * h * w * 3 bytes.

    Args:
        root: The folder. An image's label is its first folder below it, '' for a file directly in it.
        image_size: (h, w) that images are resized to.
        key: The key of the config that names the folder, for messages.
        resizing: How (`camera.resize`).

    Raises:
        DataError: There is no such folder, or no image in it; or a file exists but cannot be read. Another
            machine may read that file, and what is left out must not depend on the machine.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(
            f"{key} is {str(root)!r} but there is no such folder. Set {key} to a folder of images."
        )
    digest = known_digest(folder)
    about = (image_size, *_other_than_area(resizing))
    table = known_table(cache_key("folder", str(folder), digest, *about)) if digest else None
    if table is None:
        found = list_images(folder)
        if not found.names:
            raise DataError(
                f"{key} is {str(root)!r} but that folder holds no images ({', '.join(sorted(SUFFIXES))}). "
                f"Set {key} to a folder of images."
            )
        table = cached_table(
            cache_key("folder", str(folder), found.digest, *about),
            lambda: _decoded(
                folder, found.names, key, partial(camera.resize, size=image_size, resizing=resizing)
            ),
        )
    if table.skipped:
        count, names = len(table.skipped), listed(table.skipped)
        warnings.warn(f"{folder}: {count} unreadable images left out: {names}", stacklevel=2)
    return table


def drawn_images(
    count: int, seed: int, image_size: tuple[int, int], resizing: str = camera.AREA
) -> ImageTable:
    """Draw the first `count` procedural documents of series `seed`, resized to `image_size` (h, w)."""

    def draw(index: int) -> Pixels:
        return camera.resize(drawing.draw_document(index, seed), image_size, resizing)

    names = [f"document_{index:05d}" for index in range(count)]
    key = cache_key("drawn", count, seed, image_size, source_digest(drawing), *_other_than_area(resizing))
    return cached_table(key, lambda: map(Row, names, names, in_order(draw, range(count), "drawing")))


def cached_captures(
    documents: ImageTable,
    chosen: Sequence[int],
    *,
    per_document: int,
    image_size: tuple[int, int],
    strength: float,
    seed: int,
) -> ImageTable:
    """Photograph each chosen document several times.

    Photograph i of a document depends on (seed, the document's name, i) alone.

    Args:
        documents: The documents.
        chosen: Their numbers, in the order of the result.
        per_document: Photographs of each.
        image_size: (h, w) of a photograph.
        strength: Scale of the disturbances (`camera.capture`).
        seed: Seed of the disturbances.
    """

    def photograph(item: tuple[int, int]) -> Pixels:
        document, shot = item
        name = int.from_bytes(hashlib.sha256(documents.names[document].encode()).digest()[:8], "big")
        rng = np.random.default_rng([seed, name, shot])
        return camera.capture(documents.images[document], rng, image_size, strength)

    items = [(int(document), shot) for document in chosen for shot in range(per_document)]
    names = [f"{documents.names[document]}#{shot}" for document, shot in items]
    labels = [documents.names[document] for document, _ in items]
    key = cache_key("captures", documents.path.stem, items, image_size, strength, seed, source_digest(camera))
    return cached_table(key, lambda: map(Row, names, labels, in_order(photograph, items, "photographing")))


def _other_than_area(resizing: str) -> tuple[str, ...]:
    """Return what a cache's key says of the resizing: nothing of the usual one, so that old caches hold."""
    return () if resizing == camera.AREA else (resizing,)


def _decoded(folder: Path, names: list[str], key: str, fit: Callable[[Pixels], Pixels]) -> Iterator[Row]:
    def decode(name: str) -> tuple[Pixels | None, str]:
        return _decode(folder / name, fit)

    good = 0
    for name, (image, reason) in zip(names, in_order(decode, names, f"decoding {folder}"), strict=True):
        good += image is not None
        shown = file_name(name)
        yield Row(shown, sys.intern(shown.split("/")[0]) if "/" in shown else "", image, reason)
    if not good:
        raise DataError(f"{key} is {str(folder)!r} but none of its {len(names)} images can be decoded.")


def _decode(path: Path, fit: Callable[[Pixels], Pixels]) -> tuple[Pixels | None, str]:
    """Decode an image and fit its size; None for a file that is left out.

    The reason follows, unless the bytes are no image. What is left out is the same on every machine.
    """
    try:
        data = _read(path)
    except OSError as exc:
        name, reason = file_name(str(path)), exc.strerror
        raise DataError(f"{name} cannot be read: {reason}. Make it readable, or remove it.") from exc
    if isinstance(data, str):
        return None, data
    try:
        with Image.open(io.BytesIO(data)) as file:
            if file.width * file.height > MAX_PIXELS:
                return None, TOO_LARGE
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I;16"):  # Pillow would clip a 16-bit scan to white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return fit(np.asarray(upright.convert("RGB"))), ""
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        return None, TOO_LARGE
    except Exception:  # decoders raise all kinds of errors for broken bytes
        return None, ""


def _read(path: Path) -> bytes | str:
    """Return a file's bytes, or why it is left out. Reading a pipe or a device may never end."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ""  # a broken link: it is broken on every machine
    if not S_ISREG(stat.st_mode):
        return "not a regular file"
    if stat.st_size > MAX_BYTES:
        return f"larger than {MAX_BYTES // 2**20} MiB"
    return path.read_bytes()


def to_planes(image: NDArray[np.uint8]) -> Tensor:
    """Return an image uint8 [h, w, 3] as float32 [3, h, w] in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    planes /= 255.0
    return torch.from_numpy(planes)


def in_order(make: Callable[[T], Made], items: Sequence[T], doing: str) -> Iterator[Made]:
    """Yield `make` of every item, in order, by all cores, and show the progress.

    Drawing, decoding and resizing release the interpreter lock. Only a few results per core are held, however
    slowly they are used.
    """
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


def source_digest(module: ModuleType) -> str:
    """Hash the source of a module or package: the pixels that it makes change with it."""
    assert module.__file__ is not None
    path = Path(module.__file__)
    files = sorted(path.parent.glob("*.py")) if path.stem == "__init__" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def listed(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
