"""Steps that move pixels: matrices from pixels to pixels, on the host, and one sampling of the images."""

from __future__ import annotations

import math

import albumentations as A
import cv2
import kornia.geometry.transform as kg
import torch
import torch.nn.functional as F
from kornia.geometry.conversions import normal_transform_pixel
from torch import Tensor

from otter_ray.projects.docclassifier.data.augment.device.draw import Draw, per_image
from otter_ray.train.albumentations_mixins import BORDERS

_TRIES = 10  # for a crop that fits, as in albumentations


def perspective(step: A.Perspective, images: Tensor, draw: Draw) -> Tensor:
    """Warp by four corners that each image draws, enlarged so that nothing beyond them is visible."""
    count, (height, width) = len(images), images.shape[-2:]
    size = torch.tensor([width, height])
    inwards = draw.normal(count, 4, 2) * draw.uniform_here(step.scale, count)[:, None, None]
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = (ends - inwards.abs().remainder(0.32) * (2 * ends - 1)).abs() * size
    matrices = kg.get_perspective_transform(corners, (ends * size).expand(count, 4, 2))
    # albumentations enlarges once more, by as much as the longer edge of two is shorter than the image's.
    edges = (corners - corners.roll(-1, dims=1)).norm(dim=2).floor()
    scales = size / torch.stack([edges[:, [0, 2]].amax(1), edges[:, [1, 3]].amax(1)], 1)
    return _warped(images, _scaling(scales[:, 0], scales[:, 1]) @ matrices, draw)


def affine(step: A.Affine, images: Tensor, draw: Draw) -> Tensor:
    """Scale, turn and move, around the middle."""
    count, (height, width) = len(images), images.shape[-2:]
    x, y = (draw.uniform_here(step.scale[axis], count) for axis in "xy")
    angles = torch.deg2rad(draw.uniform_here(step.rotate, count))
    # Counterclockwise, in coordinates whose y points down.
    turns = torch.eye(3).repeat(count, 1, 1)
    turns[:, 0, 0] = turns[:, 1, 1] = angles.cos()
    turns[:, 0, 1], turns[:, 1, 0] = angles.sin(), -angles.sin()
    moves = [draw.uniform_here(step.translate_percent[axis], count) for axis in "xy"]
    across, down = (moves[0] * width).trunc(), (moves[1] * height).trunc()
    centre = torch.full_like(x, width / 2 - 0.5), torch.full_like(y, height / 2 - 0.5)
    back = _shifting(centre[0] + across, centre[1] + down)
    scale = _scaling(x, x if step.keep_ratio else y)
    return _warped(images, back @ turns @ scale @ _shifting(-centre[0], -centre[1]), draw)


def crop(step: A.RandomResizedCrop, images: Tensor, draw: Draw) -> Tensor:
    """Enlarge a part of each image to its size."""
    count, (height, width) = len(images), images.shape[-2:]
    areas = draw.uniform_here(step.scale, count, _TRIES) * height * width
    ratios = draw.uniform_here([math.log(ratio) for ratio in step.ratio], count, _TRIES).exp()
    widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
    fits = (widths <= width) & (heights <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    across, down = widths.gather(1, first)[:, 0], heights.gather(1, first)[:, 0]
    left = (draw.uniform_here((0, 1), count) * (width - across + 1)).floor()
    top = (draw.uniform_here((0, 1), count) * (height - down + 1)).floor()
    # If none fits: the middle, as wide and as high as the ratios allow.
    most = min(width, round(height * step.ratio[1])), min(height, round(width / step.ratio[0]))
    middle = *most, (width - most[0]) // 2, (height - most[1]) // 2
    across, down, left, top = (
        drawn.where(fits.any(1), torch.full_like(drawn, fixed))
        for drawn, fixed in zip((across, down, left, top), middle, strict=True)
    )
    # The crop's outermost pixels are cut in half by its edge, as the image's are.
    half = torch.full_like(left, 0.5)
    scale = _scaling(width / across, height / down)
    matrices = _shifting(-half, -half) @ scale @ _shifting(half - left, half - top)
    return _warp(images, matrices, draw)


def zoom_blur(step: A.ZoomBlur, images: Tensor, draw: Draw) -> Tensor:
    """Average each image and its enlargements, as if the lens had zoomed meanwhile."""
    count, (height, width) = len(images), images.shape[-2:]
    steps = draw.uniform_here(step.step_factor, count)
    furthest = torch.maximum(1 + steps, draw.uniform_here(step.max_factor, count))
    zooms = ((furthest - 1) / steps).ceil()  # 1, 1 + step, ... below the furthest
    # All of them at once: the number of each, and the row of its image.
    numbers = torch.arange(1, int(zooms.max()))
    rows, places = (numbers < zooms[:, None]).nonzero().unbind(1)
    factors = 1 + numbers[places] * steps[rows]
    x, y = (_zoom_along(side, factors) for side in (width, height))
    there = draw.send(rows)
    zoomed = _warp(images[there], _scaling(x[0], y[0]) @ _shifting(x[1], y[1]), draw)
    total = (2 * images).index_add_(0, there, zoomed)  # itself, and the zoom by 1
    return total / draw.send(per_image(zooms + 1))


def _zoom_along(side: int, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift, both `[N]`, of a zoom that crops and enlarges whole pixels."""
    crops = (side / factors).ceil()
    sizes = (crops * factors).floor()
    starts, trims = (side - crops) // 2, (sizes - side) // 2
    scales = sizes / crops
    return scales, 0.5 - starts - (trims + 0.5) / scales


def _warped(images: Tensor, matrices: Tensor, draw: Draw) -> Tensor:
    """Warp by matrices `[N, 3, 3]` from pixels to pixels, on the host.

    Each image draws its border as in `BorderValueMixin`.
    """
    modes = torch.tensor(BORDERS)[draw.integers(0, len(BORDERS) - 1, len(images))]
    colours = draw.integers(0, 255, len(images), 3) / 255 * (modes == cv2.BORDER_CONSTANT)[:, None]
    modes, shift = draw.send(per_image(modes)), draw.send(colours)[..., None, None]
    grid = _grid(matrices, images, draw)
    # A wave that rises from -1 to 1 and falls again: a mirror at either edge.
    mirrored = 1 - ((grid + 1).remainder(4) - 2).abs()
    grid = grid.where(modes != cv2.BORDER_REPLICATE, grid.clamp(-1, 1))
    grid = grid.where(modes != cv2.BORDER_REFLECT, mirrored)
    # What is outside becomes 0, which is the colour.
    return F.grid_sample(images - shift, grid, align_corners=True) + shift


def _warp(images: Tensor, matrices: Tensor, draw: Draw) -> Tensor:
    """Warp by matrices `[N, 3, 3]` from pixels to pixels, on the host; edges are extended."""
    return F.grid_sample(images, _grid(matrices, images, draw), padding_mode="border", align_corners=True)


def _grid(matrices: Tensor, images: Tensor, draw: Draw) -> Tensor:
    """Return the sampling grid `[N, H, W, 2]` of matrices `[N, 3, 3]` from pixels to pixels, on the host.

    It holds x and y; the centres of the outermost pixels are -1 and 1. kornia's `warp_perspective` does the
    same, but inverts on the device and launches five times as many kernels.
    """
    height, width = images.shape[-2:]
    matrices = normal_transform_pixel(height, width) @ torch.linalg.inv(matrices)
    x, y, one = draw.send(matrices).unbind(2)
    across = x[:, None] * torch.arange(width, device=images.device)[:, None]
    down = y[:, None] * torch.arange(height, device=images.device)[:, None] + one[:, None]
    read = down[:, :, None] + across[:, None]
    return read[..., :2] / read[..., 2:]


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `[N, 3, 3]` that scale by x and y, each `[N]`."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _shifting(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `[N, 3, 3]` that shift by x and y, each `[N]`."""
    matrices = torch.eye(3).repeat(len(x), 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices
