"""The parts of trained models that are exported, in the form that the clients accept."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from otter_ray.train.model.channels import RGB, reordered


class _Warp(nn.Module):
    """Backbone, neck and head of a model.

    Args:
        model: The trained model.
        channels: The order of the images' colour channels: `rgb`, as in training, or `bgr`.
    """

    def __init__(self, model: Any, channels: str = RGB) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head
        self.channels = channels

    def _told(self, img: Tensor) -> Any:
        """Return what the head tells of images in [0, 1]."""
        return self.head(self.neck(self.backbone(reordered(img, self.channels))))


class WarpReader(_Warp):
    """What a `ReaderModel` reads, place by place."""

    def forward(self, img: Tensor) -> Tensor:
        """Return how likely each of the 40 keys is at each place, `[N, 93, 40]`, of images in [0, 1]."""
        text: Tensor = self.head.text(self._told(img))
        return text


class WarpRegion(_Warp):
    """The mask of a `RegionModel`, of rank 3 as the client takes it."""

    def forward(self, img: Tensor) -> Tensor:
        """Return masks in [0, 1], `[N, h, w]`, of images in [0, 1]."""
        mask: Tensor = self._told(img).sigmoid()
        return mask


class WarpSpotting(WarpReader):
    """What a `SpottingModel` reads: as a reader's, in the spotter's keys."""
