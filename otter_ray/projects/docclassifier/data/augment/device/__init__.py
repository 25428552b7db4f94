"""The sets of `augment.cpu` for whole batches, on whatever device they are.

albumentations changes one image at a time on the CPU, which cannot feed a fast GPU. Here the same steps,
read from the same set, are applied to a batch. Each image still draws its own steps and strengths. The
result has albumentations' distribution, not its bits: values are not rounded to 1/255 between two steps, a
mirrored border does not repeat its outermost pixel, and a cropped or zoomed image is read half a pixel beyond
its edge.

A fast GPU waits for what the host launches, so kornia's operations are used only if they launch little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A
import torch
from torch import Tensor

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.augment.cpu import SensorNoise
from otter_ray.projects.docclassifier.data.augment.device import colour, focus, geometry
from otter_ray.projects.docclassifier.data.augment.device.draw import Draw, changed, rows_of
from otter_ray.vision.dataset_options import option_key


def augment_batch(augmentation: A.Compose, images: Tensor, seed: Sequence[int]) -> Tensor:
    """Augment images `[N, 3, H, W]`, float32 in [0, 1], as a function of set, images and `seed` alone.

    The draws are the same on every device, except for the noise in pixels. On a GPU the bits are reproducible
    only with deterministic algorithms.

    Raises:
        DataError: The set has a step that is not in `OPERATIONS`.
    """
    # A trainer's precision may have become the default one.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            return _maybe(images.clone(), augmentation, Draw(seed, images.device))
    finally:
        torch.set_default_dtype(default)


def _maybe(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """Apply a step that changes each image with probability `step.p`."""
    return changed(images, draw.chosen(len(images), step.p), _applied, step, draw)


def _applied(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """Apply a step, one of several, or all of a set, to every image."""
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
        f"{option_key('aug_on', 'train')} is device, but {type(step).__name__} is only available on the CPU. "
        "Set it to cpu."
    )


# Step -> the function that applies it to each image of a batch.
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
