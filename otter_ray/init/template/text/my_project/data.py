"""The data set: drawn numbers, so that the project runs as it is. Replace it by yours."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

KEYS = ("", *"0123456789")  # what each place of a text may be; the first stands for no character
PLACES = 5  # the longest text


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    """`count` images (float32 [3, h, w], RGB in [0, 1]), each with the keys of its text, int64 [PLACES].

    Args:
        image_size: (h, w) in pixels; otter_ray passes that of the config's `common`.
        count: Number of images.
        seed: Another seed draws other images.
        noise: Standard deviation, in units of the full scale.
    """

    disjoint_by = "seed"  # training, validation and test set must differ in this option

    def __init__(self, image_size: tuple[int, int], *, count: int, seed: int = 0, noise: float = 0.1) -> None:
        self.image_size, self.count, self.seed, self.noise = image_size, count, seed, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        text = "".join(rng.choice(KEYS[1:], rng.integers(1, PLACES + 1)))
        image = draw(text, self.image_size, rng, self.noise)
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255), encode(text)


def encode(text: str) -> Tensor:
    """Return the keys of a text, int64 [PLACES]."""
    return torch.tensor([KEYS.index(character) for character in text] + [0] * (PLACES - len(text)))


def decode(keys: Tensor) -> str:
    """Return the text of keys [PLACES]."""
    return "".join(KEYS[key] for key in keys.tolist())


def draw(text: str, image_size: tuple[int, int], rng: np.random.Generator, noise: float) -> NDArray[np.uint8]:
    """Draw a dark text on a light ground: uint8 [h, w, 3], RGB."""
    height, width = image_size
    image = np.full((height, width, 3), rng.uniform(145, 255, 3), np.uint8)  # putText takes no other type
    pitch, ink = width / (PLACES + 0.5), rng.uniform(0, 110, 3).tolist()
    left, base = rng.uniform(0, pitch / 4), rng.uniform(0.65, 0.8) * height
    for place, character in enumerate(text):
        at = (round(left + place * pitch), round(base))
        cv2.putText(image, character, at, cv2.FONT_HERSHEY_SIMPLEX, pitch / 22, ink, 2, cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 255 * noise, image.shape), 0, 255).astype(np.uint8)
