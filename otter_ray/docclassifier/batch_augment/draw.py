"""Random numbers for a batch, and what is done to some of its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Draw:
    """Random numbers for a batch: which images and how strongly from a generator on the CPU, which the host
    may look at without waiting for the device; noise in pixels from one on the device."""

    def __init__(self, seed: Sequence[int], device: torch.device) -> None:
        strengths, noise = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self.device = device
        self.host = torch.Generator().manual_seed(int(strengths))
        self.pixels = torch.Generator(device).manual_seed(int(noise))

    def send(self, values: Tensor) -> Tensor:
        """From the host to the device, without waiting for it."""
        return values.to(self.device, non_blocking=True)

    def uniform(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Of `shape`, on the device."""
        return self.send(self.uniform_here(limits, *shape))

    def uniform_here(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Of `shape`, on the host: what is looked at on the way to the device would make it wait."""
        low, high = limits
        return low + (high - low) * torch.rand(shape, generator=self.host)

    def normal(self, *shape: int) -> Tensor:
        """Of `shape`, on the host."""
        return torch.randn(shape, generator=self.host)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """In [low, high], of `shape`, on the host."""
        return torch.randint(low, high + 1, shape, generator=self.host)

    def odd(self, limits: Sequence[int], count: int) -> Tensor:
        """Odd numbers between two odd ones, on the host."""
        return 2 * self.integers(limits[0] // 2, limits[1] // 2, count) + 1

    def orders(self, count: int, length: int) -> Tensor:
        """Permutations `[count, length]`, on the host."""
        return torch.rand((count, length), generator=self.host).argsort(dim=1)

    def chosen(self, count: int, p: float) -> Tensor:
        """Numbers of images, each with probability p, on the host."""
        return rows_of(torch.rand(count, generator=self.host) < p)

    def one_of(self, weights: Sequence[float], count: int) -> Tensor:
        """The number of a weight for each image, on the host."""
        return torch.multinomial(torch.tensor(weights), count, replacement=True, generator=self.host)


def changed(images: Tensor, rows: Tensor, change: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Images `[N, 3, H, W]`, which may be overwritten, with rows `[K]`, on the host, replaced by `change` of
    them."""
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, *arguments)
    rows = rows.to(images.device, non_blocking=True)
    return images.index_copy_(0, rows, change(images[rows], *arguments))


def rows_of(chosen: Tensor) -> Tensor:
    """Numbers of the images that are chosen, of `[N]` truths on the host."""
    return chosen.nonzero()[:, 0]


def per_image(values: Tensor) -> Tensor:
    """`[N]` as `[N, 1, 1, 1]`."""
    return values.view(-1, 1, 1, 1)
