"""Draw the heatmaps that a model learns to predict, on its device, from the corners."""

from __future__ import annotations

import torch
from torch import Tensor

from otter_ray.projects.docaligner.corners import to_pixels


def corner_maps(corners: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Draw a Gaussian at the true place of each corner, also between the pixels: `[N, 4, h, w]`.

    Args:
        corners: `[N, 4, 2]` in fractions.
        size: (h, w) of the heatmaps.
        sigma: In pixels of the heatmaps.
    """
    centre = to_pixels(corners, size)
    y, x = (torch.arange(side, device=corners.device, dtype=corners.dtype) for side in size)
    across = torch.exp((x - centre[..., :1]) ** 2 * (-0.5 / sigma**2))
    down = torch.exp((y - centre[..., 1:]) ** 2 * (-0.5 / sigma**2))
    return down[..., :, None] * across[..., None, :]


def edge_maps(corners: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Draw the outlines, soft on both sides: `[N, 1, h, w]`."""
    start = to_pixels(corners, size)
    step = start.roll(-1, 1) - start
    y, x = (torch.arange(side, device=corners.device, dtype=corners.dtype) for side in size)
    away_x, away_y = x - start[..., 0, None, None], y[:, None] - start[..., 1, None, None]
    step_x, step_y = step[..., 0, None, None], step[..., 1, None, None]
    share = (away_x * step_x + away_y * step_y) / (step_x**2 + step_y**2).clamp_min(1e-6)
    share = share.clamp(0, 1)
    squared = (away_x - share * step_x) ** 2 + (away_y - share * step_y) ** 2
    return torch.exp(squared.amin(1, keepdim=True) * (-0.5 / sigma**2))


def inside(corners: Tensor) -> Tensor:
    """Return which corners `[N, 4]` lie in the frame: others have no target."""
    return ((corners >= 0) & (corners <= 1)).all(2)
