"""Read or draw the documents of scenes. Each keeps its own aspect ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from otter_ray.errors import DataError
from otter_ray.projects.docaligner.data import papers
from otter_ray.vision import camera, drawing
from otter_ray.vision.dataset_options import option_key
from otter_ray.vision.image_cache import ImageTable, Row, cache_key, cached_table, read_table
from otter_ray.vision.images import in_order, load_images, source_digest
from otter_ray.vision.near_duplicates import near_duplicates

Image = NDArray[np.uint8]
# Sides that documents are kept at, squeezed to a square: at least, at most.
_SIDES = (128, 512)
# EXIF's tag of the orientation, and the values for which width and height are exchanged.
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents, or photographs of what they lie on.

    Attributes:
        table: The images, each squeezed to a square.
        aspects: Width divided by height of each, before that.
        rows: Which of them are used.
    """

    table: ImageTable
    aspects: NDArray[np.float64]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: np.random.Generator) -> tuple[Image, float]:
        """Return one by chance: uint8 [side, side, 3], and its width divided by its height."""
        row = int(self.rows[rng.integers(len(self.rows))])
        return self.table.images[row], float(self.aspects[row])

    def without(self, held_out: Sequence[NDArray[np.uint8]], part: str) -> Documents:
        """Return those that are no near-duplicates of held-out ones, by thumbnails.

        Raises:
            DataError: Fewer than two are left.
        """
        kept = self.rows
        for thumbnails in held_out:
            kept = kept[~near_duplicates(self.table.thumbnails[kept], thumbnails)]
        if held_out and len(kept) < 2:
            raise DataError(
                f"{option_key('root', part)}: only {len(kept)} of {len(self)} documents are left after those "
                "of the other data sets and their near-duplicates are removed. At least 2 are needed. Give "
                "each data set a folder of its own."
            )
        return Documents(self.table, self.aspects, kept)


def side_of(image_size: tuple[int, int]) -> int:
    """Return the side at which documents are kept for photographs of that size."""
    return int(np.clip(2 * max(image_size), *_SIDES))


def drawn_documents(count: int, seed: int, image_size: tuple[int, int]) -> Documents:
    """Draw the first `count` documents of series `seed`."""
    side = side_of(image_size)

    def draw(index: int) -> tuple[Image, float]:
        paper = papers.draw_paper(index, seed)
        return camera.resize(paper, (side, side)), paper.shape[1] / paper.shape[0]

    def rows() -> list[Row]:
        made = in_order(draw, range(count), "drawing")
        return [
            Row(f"paper_{index:05d}", f"{aspect:.5f}", image) for index, (image, aspect) in enumerate(made)
        ]

    key = cache_key("papers", count, seed, side, source_digest(papers), source_digest(drawing))
    table = cached_table(key, rows)
    return Documents(table, np.array([float(each) for each in table.labels]), np.arange(count))


def folder_documents(
    root: str, image_size: tuple[int, int], option: str, part: str, least: int = 1
) -> Documents:
    """Load every image below `root`.

    Raises:
        DataError: The folder cannot be used, or holds fewer than `least` images.
    """
    side, key = side_of(image_size), option_key(option, part)
    table = load_images(root, (side, side), key)
    if len(table) < least:
        raise DataError(
            f"{key} is {root!r}, which holds {len(table)} usable image. At least {least} are needed."
        )
    return Documents(
        table, _aspects(str(Path(root).expanduser().absolute()), table.path), np.arange(len(table))
    )


@lru_cache(maxsize=8)
def _aspects(root: str, table: Path) -> NDArray[np.float64]:
    """Read width / height from the images' heads, once in a process. The table's file never changes."""
    return np.array([_aspect(Path(root) / name) for name in read_table(table).names])


def _aspect(path: Path) -> float:
    try:
        with PillowImage.open(path) as file:
            width, height = file.size
            turned = file.getexif().get(_ORIENTATION) in _TURNED
    except OSError:  # a name that the table shows in another way
        return papers.A4
    return height / width if turned else width / height
