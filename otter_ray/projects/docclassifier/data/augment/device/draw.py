"""Random numbers for a batch, and changes to some of its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Draw:
    """Random numbers for a batch, from two generators.

    Which images are changed, and how strongly, comes from a generator on the CPU, which the host can read
    without waiting for the device. Noise in pixels comes from one on the device.
    """

    def __init__(self, seed: Sequence[int], device: torch.device) -> None:
        strengths, noise = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self.device = device
        self.host = torch.Generator().manual_seed(int(strengths))
        self.pixels = torch.Generator(device).manual_seed(int(noise))

    def send(self, values: Tensor) -> Tensor:
        """Send values from the host to the device, without waiting for it."""
        return values.to(self.device, non_blocking=True)

    def uniform(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Draw uniform numbers of `shape`, on the device."""
        return self.send(self.uniform_here(limits, *shape))

    def uniform_here(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Draw uniform numbers of `shape`, on the host, where they can be read without waiting."""
        low, high = limits
        return low + (high - low) * torch.rand(shape, generator=self.host)

    def normal(self, *shape: int) -> Tensor:
        """Draw normal numbers of `shape`, on the host."""
        return torch.randn(shape, generator=self.host)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw integers in [low, high] of `shape`, on the host."""
        return torch.randint(low, high + 1, shape, generator=self.host)

    def odd(self, limits: Sequence[int], count: int) -> Tensor:
        """Draw odd numbers between two odd ones, on the host."""
        return 2 * self.integers(limits[0] // 2, limits[1] // 2, count) + 1

    def orders(self, count: int, length: int) -> Tensor:
        """Draw permutations `[count, length]`, on the host."""
        return torch.rand((count, length), generator=self.host).argsort(dim=1)

    def chosen(self, count: int, p: float) -> Tensor:
        """Draw numbers of images, each with probability p, on the host."""
        return rows_of(torch.rand(count, generator=self.host) < p)

    def one_of(self, weights: Sequence[float], count: int) -> Tensor:
        """Draw the number of a weight for each image, on the host."""
        return torch.multinomial(torch.tensor(weights), count, replacement=True, generator=self.host)


def changed(images: Tensor, rows: Tensor, change: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Replace some images by what `change` makes of them.

    Args:
        images: `[N, 3, H, W]`, which may be overwritten.
        rows: Numbers `[K]` of the images to change, on the host.
        change: Called with these images.
        *arguments: More arguments for it.
    """
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, *arguments)
    rows = rows.to(images.device, non_blocking=True)
    return images.index_copy_(0, rows, change(images[rows], *arguments))


def rows_of(chosen: Tensor) -> Tensor:
    """Return the numbers of the images that are chosen, from `[N]` truth values on the host."""
    return chosen.nonzero()[:, 0]


def per_image(values: Tensor) -> Tensor:
    """Reshape `[N]` to `[N, 1, 1, 1]`."""
    return values.view(-1, 1, 1, 1)
