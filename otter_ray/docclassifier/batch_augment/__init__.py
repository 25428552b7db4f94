"""The sets of `augment` for whole batches, on whatever device they are.

albumentations changes one image at a time on the CPU, which cannot feed a fast GPU. Here the same steps,
read from the same set, are applied to a batch. Each image still draws its own steps and strengths. What comes
out has albumentations' distribution, not its bits: values are not rounded to 1/255 between two steps; a
mirrored border does not repeat its outermost pixel, and what was cropped or zoomed is read beyond its edge by
half of one.

A fast GPU waits for what the host launches: kornia's operations are used where they launch little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A
import torch
from torch import Tensor

from otter_ray.docclassifier.augment import SensorNoise
from otter_ray.docclassifier.batch_augment import colour, focus, geometry
from otter_ray.docclassifier.batch_augment.draw import Draw, changed, rows_of
from otter_ray.docclassifier.items import option_key
from otter_ray.errors import DataError


def augment_batch(augmentation: A.Compose, images: Tensor, seed: Sequence[int]) -> Tensor:
    """Images `[N, 3, H, W]`, float32 in [0, 1], after the set, as a function of the two and `seed` alone.

    The draws are the same on every device, but for the noise in pixels; on a GPU the same bits come again
    with deterministic algorithms only. DataError: the set has a step that is not in `OPERATIONS`.
    """
    # A trainer's precision may be the default one.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            return _maybe(images.clone(), augmentation, Draw(seed, images.device))
    finally:
        torch.set_default_dtype(default)


def _maybe(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """After a step that changes each image with probability `step.p`."""
    return changed(images, draw.chosen(len(images), step.p), _applied, step, draw)


def _applied(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """After a step, one of several, or all of a set: every image is changed."""
    if isinstance(step, A.OneOf):
        numbers = draw.one_of([each.p for each in step.transforms], len(images))
        for number, each in enumerate(step.transforms):
            images = changed(images, rows_of(numbers == number), _applied, each, draw)
        return images
    if isinstance(step, A.Compose):
        for each in step.transforms:
            images = _maybe(images, each, draw)
        return images
    for cls in type(step).__mro__:
        if cls in OPERATIONS:
            return OPERATIONS[cls](step, images, draw).clamp(0, 1)
    raise DataError(
        f"{option_key('aug_on', 'train')} is device but {type(step).__name__} is known to the CPU alone. "
        "Set it to cpu."
    )


# Step -> what does it to each image of a batch.
OPERATIONS: dict[type, Callable[[Any, Tensor, Draw], Tensor]] = {
    A.Affine: geometry.affine,
    A.ChannelDropout: colour.channel_dropout,
    A.ChannelShuffle: colour.channel_shuffle,
    A.ColorJitter: colour.jitter,
    A.Defocus: focus.defocus,
    A.GaussianBlur: focus.gaussian_blur,
    A.GaussNoise: colour.gauss_noise,
    A.ImageCompression: focus.jpeg,
    A.InvertImg: colour.inverted,
    A.MedianBlur: focus.median_blur,
    A.MotionBlur: focus.motion_blur,
    A.MultiplicativeNoise: colour.multiplicative_noise,
    A.Perspective: geometry.perspective,
    A.PlasmaShadow: colour.plasma_shadow,
    A.RandomResizedCrop: geometry.crop,
    A.RGBShift: colour.rgb_shift,
    A.ToGray: colour.gray,
    A.ToSepia: colour.sepia,
    A.ZoomBlur: geometry.zoom_blur,
    SensorNoise: colour.sensor_noise,
}
