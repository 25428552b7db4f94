"""The part of a trained model that is exported: corners as both of the public client's classes read them."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from otter_ray.projects.docaligner.modeling.decoding import PeakPlace
from otter_ray.train.model.channels import BGR, reordered


class WarpHeatmap(nn.Module):
    """Heatmaps, and with `with_points` the corners that they mean.

    Args:
        model: The trained `AlignerModel`, with a `HeatmapHead`.
        channels: The order of the images' colour channels: `bgr`, as the client reads them, or `rgb`.
        with_points: Whether to return `points` and `has_obj`, too.
    """

    OUTPUTS: ClassVar = ("heatmap", "points", "has_obj")

    def __init__(self, model: nn.Module, channels: str = BGR, with_points: bool = True) -> None:
        super().__init__()
        self.parts = _parts(model)
        self.channels, self.with_points = channels, with_points
        self.place = PeakPlace()

    def forward(self, img: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Look for corners in images `[N, 3, H, W]` in [0, 1].

        Returns:
            Heatmaps `[N, 4, h, w]` in [0, 1]; points `[N, 8]` as fractions of width and height, from edge to
            edge; and in [0, 1] whether there is a document, `[N, 1]`: the model says so, or without a head
            for that the least of the four peaks.
        """
        prediction = self.parts(reordered(img, self.channels))
        heatmap: Tensor = prediction.corners.sigmoid()
        if not self.with_points:
            return heatmap
        if prediction.has_object is None:
            has_object = heatmap.flatten(2).amax(2).amin(1, keepdim=True)
        else:
            has_object = prediction.has_object.sigmoid()
        return heatmap, self.place(heatmap).flatten(1), has_object


class WarpPoints(nn.Module):
    """Corners as points.

    Args:
        model: The trained `AlignerModel`, with a `PointHead`.
        channels: As for `WarpHeatmap`.
    """

    OUTPUTS: ClassVar = ("points", "has_obj")

    def __init__(self, model: nn.Module, channels: str = BGR) -> None:
        super().__init__()
        self.parts, self.channels = _parts(model), channels

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Return points `[N, 8]` in fractions, and `[N, 1]` whether there is a document."""
        prediction = self.parts(reordered(img, self.channels))
        return prediction.points.flatten(1), prediction.has_object.sigmoid()


def _parts(model: nn.Module) -> nn.Module:
    """Return the network without its loss."""
    network: nn.Module = model.network  # type: ignore[assignment]
    return network
