"""Find corners in heatmaps: as the public client does it, and by the expected place."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

THRESHOLD = 0.3  # of the client, below which a heatmap counts as empty
POWER = 4  # of a heatmap's values, as the weights of its pixels


def decode(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the corners that the client finds in heatmaps `[N, 4, h, w]`, `[N, 4, 2]` in fractions.

    A corner that it does not find is NaN.

    Args:
        heatmaps: Values in [0, 1].
        size: (h, w) of the image that the client resizes them to.
    """
    maps = heatmaps.detach().float().cpu().numpy()
    found = [[_corner(each, size) for each in image] for image in maps]
    places = torch.tensor(np.array(found, np.float64).reshape(len(maps), -1, 2))
    return (places + 0.5) / torch.tensor([size[1], size[0]], dtype=torch.float64)


def _corner(heatmap: NDArray[np.float32], size: tuple[int, int]) -> tuple[float, float]:
    """Return the centroid, in pixels, of the largest blob; NaN if there is none, or if two are as large."""
    if heatmap.max() < THRESHOLD:
        return float("nan"), float("nan")
    resized = np.asarray(cv2.resize(heatmap, size[::-1], interpolation=cv2.INTER_LINEAR))
    resized[resized < THRESHOLD] = 0
    binary = cv2.threshold(np.uint8(resized * 255), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
    outlines = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    moments = [cv2.moments(outline) for outline in outlines if len(outline) >= 3]
    largest = max((each["m00"] for each in moments), default=0.0)
    best = [each for each in moments if each["m00"] == largest]
    if len(best) != 1:
        return float("nan"), float("nan")
    area = best[0]["m00"] + 1e-5
    return best[0]["m10"] / area, best[0]["m01"] / area


class PeakPlace(nn.Module):
    """The mean place of each heatmap, by values to a power, so that the highest peak counts alone.

    Unlike the place of the largest value, it does not jump if rounding changes a heatmap that is nearly flat.
    """

    def forward(self, heatmaps: Tensor) -> Tensor:
        """Return places `[N, 4, 2]`, in fractions, of heatmaps `[N, 4, h, w]` with values in [0, 1]."""
        height, width = (int(side) for side in heatmaps.shape[2:])
        some = heatmaps + 1e-6  # a map of zeros has its place in the middle
        weight = (some / some.amax((2, 3), keepdim=True)) ** POWER
        total = weight.sum((2, 3))
        x, y = (
            (torch.arange(side, device=heatmaps.device, dtype=heatmaps.dtype) + 0.5) / side
            for side in (width, height)
        )
        across, down = (weight.sum(2) * x).sum(2), (weight.sum(3) * y).sum(2)
        return torch.stack([across / total, down / total], 2)
