"""A small backbone for text: few pixels are lost before the channels can hold what they show."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def _conv(given: int, made: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made))


class _Block(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.second(F.relu(self.first(features))))


class MrzBackbone(nn.Module):
    """Convolutions to a quarter of the image's sides, and residual blocks there.

    Args:
        width: Channels of the feature map.
        depth: Residual blocks.
    """

    def __init__(self, width: int = 32, depth: int = 1) -> None:
        super().__init__()
        if width < 2 or depth < 0:
            raise ValueError(f"width is {width} and depth {depth}, but they must be at least 2 and 0")
        self.channels, self.reductions = [width], [4]
        self.stem = nn.Sequential(_conv(3, width // 2, 2), nn.ReLU(), _conv(width // 2, width, 2), nn.ReLU())
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))

    def forward(self, img: Tensor) -> list[Tensor]:
        """Return one feature map `[N, width, H / 4, W / 4]`."""
        return [self.blocks(self.stem(img))]
