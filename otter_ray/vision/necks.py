"""Necks: from a backbone's feature maps, finest first, to maps of one width that know of each other.

Levels halve their sides from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

NEAREST, BILINEAR = "nearest", "bilinear"  # ways to enlarge


class Separable(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class WeightedSum(nn.Module):
    """The mean of maps by learned weights that are not negative ("fast normalised fusion", EfficientDet)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs))

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the mean of maps of one shape."""
        weight = functional.relu(self.weight)
        total = weight.sum() + 1e-4
        return torch.stack([part * (weight[index] / total) for index, part in enumerate(maps)]).sum(0)


def enlarge(feature: Tensor, like: Tensor, upsampling: str = NEAREST) -> Tensor:
    """Return the map at the size of another one."""
    corners = None if upsampling == NEAREST else False
    return functional.interpolate(feature, size=like.shape[2:], mode=upsampling, align_corners=corners)


class _Neck(nn.Module):
    """A neck.

    Args:
        in_channels: Of each feature map, finest first.
        out_channels: Of each map that it returns.
        repeats: How often information goes through all levels.
        upsampling: `nearest` or `bilinear`.
        read: Levels that are read, the finest among them; None for all. What only the others need is not
            built: weights without a gradient stop a training with several processes.

    Raises:
        ValueError: There is no level, or a number is out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 64,
        repeats: int = 1,
        upsampling: str = NEAREST,
        read: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not in_channels:
            raise ValueError("in_channels is empty: the neck has no level to work on")
        for name, value in (("out_channels", out_channels), ("repeats", repeats)):
            if value < 1:
                raise ValueError(f"{name} is {value} but must be at least 1")
        if upsampling not in (NEAREST, BILINEAR):
            raise ValueError(f"upsampling is {upsampling!r} but must be {NEAREST} or {BILINEAR}")
        self.upsampling = upsampling
        every = range(len(in_channels))
        self.read = [*every] if read is None else [*read]
        if self.read != sorted({0, *self.read} & {*every}):
            raise ValueError(f"read is {self.read} but must name levels of {[*every]}, in this order, with 0")
        self.channels = [out_channels] * len(self.read)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
            for channels in in_channels
        )
        # Only the last layer's maps are not read by another layer.
        self.layers = nn.ModuleList(
            self._layer(out_channels, len(in_channels), each)
            for each in [*[every] * (repeats - 1), self.read]
        )

    def _layer(self, channels: int, levels: int, read: Sequence[int]) -> nn.Module:
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return maps `[N, out_channels, h, w]` of feature maps: those that are read, finest first."""
        maps = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for layer in self.layers:
            maps = layer(maps)
        return maps


class FPN(_Neck):
    """From coarse to fine: each level is added to the next finer one (Lin et al. 2017)."""

    def _layer(self, channels: int, levels: int, read: Sequence[int]) -> nn.Module:
        return _TopDown(channels, read, self.upsampling)


class BiFPN(_Neck):
    """From coarse to fine and back, by weighted sums (Tan et al. 2020)."""

    def _layer(self, channels: int, levels: int, read: Sequence[int]) -> nn.Module:
        return _BothWays(channels, levels, read, self.upsampling)


class _TopDown(nn.Module):
    def __init__(self, channels: int, read: Sequence[int], upsampling: str) -> None:
        super().__init__()
        self.read, self.upsampling = read, upsampling
        self.smooth = nn.ModuleList(Separable(channels, channels) for _ in read)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        sums = [maps[-1]]
        for level in range(len(maps) - 2, -1, -1):
            sums.insert(0, maps[level] + enlarge(sums[0], maps[level], self.upsampling))
        return [smooth(sums[level]) for smooth, level in zip(self.smooth, self.read, strict=True)]


class _BothWays(nn.Module):
    def __init__(self, channels: int, levels: int, read: Sequence[int], upsampling: str) -> None:
        super().__init__()
        self.read, self.upsampling = read, upsampling
        steps, back = levels - 1, max(read)
        self.down = nn.ModuleList(Separable(channels, channels) for _ in range(steps))
        self.down_sum = nn.ModuleList(WeightedSum(2) for _ in range(steps))
        self.up = nn.ModuleList(Separable(channels, channels) for _ in range(back))
        # The coarsest level has no map of the way down beside its own.
        self.up_sum = nn.ModuleList(WeightedSum(3 if level < steps - 1 else 2) for level in range(back))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        down = [maps[-1]]
        for level in range(len(maps) - 2, -1, -1):
            larger = enlarge(down[0], maps[level], self.upsampling)
            down.insert(0, self.down[level](self.down_sum[level](maps[level], larger)))
        found = [down[0]]
        for level in range(1, len(self.up) + 1):
            smaller = functional.max_pool2d(found[-1], 3, 2, 1)
            parts = [maps[level], down[level], smaller] if level < len(maps) - 1 else [maps[level], smaller]
            found.append(self.up[level - 1](self.up_sum[level - 1](*parts)))
        return [found[level] for level in self.read]
