"""The parts of trained models that are exported, in the form that the clients take."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from otter_ray.train.model.channels import RGB, reordered


class WarpReader(nn.Module):
    """What a `ReaderModel` reads, place by place.

    Args:
        model: The trained model.
        channels: The order of the images' colour channels: `rgb`, as in training, or `bgr`.
    """

    def __init__(self, model: Any, channels: str = RGB) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head
        self.channels = channels

    def forward(self, img: Tensor) -> Tensor:
        """Return how likely each of the 40 keys is at each place, `[N, 93, 40]`, of images in [0, 1]."""
        text: Tensor = self.head.text(self.head(self.neck(self.backbone(reordered(img, self.channels)))))
        return text


class WarpRegion(nn.Module):
    """The mask of a `RegionModel`, of rank 3 as the client takes it.

    Args:
        model: The trained model.
        channels: The order of the images' colour channels: `rgb`, as in training, or `bgr`.
    """

    def __init__(self, model: Any, channels: str = RGB) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head
        self.channels = channels

    def forward(self, img: Tensor) -> Tensor:
        """Return masks in [0, 1], `[N, h, w]`, of images in [0, 1]."""
        mask: Tensor = self.head(self.neck(self.backbone(reordered(img, self.channels)))).sigmoid()
        return mask


class WarpSpotting(WarpReader):
    """What a `SpottingModel` reads: as a reader's, in the spotter's keys."""
