"""Training augmentation: DocClassifier's own sets, and one that imitates a camera.

DocClassifier was written for albumentations 1.x. Version 2 renamed arguments and made the defaults
far stronger, so every strength is written out here, with its value of 1.x.

Each set is made with (image_size, p, seed): (h, w) in pixels of inputs and outputs, the probability in [0, 1]
that an image is augmented at all, and a seed. It maps images uint8 [h, w, 3] RGB to images of the same form.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network for a newer version

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.train.albumentations_mixins import BorderValueMixin

Size = tuple[int, int]


class _Affine(BorderValueMixin, A.Affine):  # type: ignore[misc]
    pass


class _Perspective(BorderValueMixin, A.Perspective):  # type: ignore[misc]
    pass


class SensorNoise(A.ISONoise):  # type: ignore[misc]
    """1.x's ISONoise. That of 2.0.8 draws Poisson noise for values in [0, 1], which makes white dots."""

    def apply(  # noqa: D102
        self, img: NDArray[np.uint8], color_shift: float, intensity: float, random_seed: int, **params: Any
    ) -> NDArray[np.uint8]:
        rng = np.random.default_rng(random_seed)
        hls = cv2.cvtColor(img.astype(np.float32) / 255, cv2.COLOR_RGB2HLS)
        hue, light = hls[..., 0], hls[..., 1]
        brighter = rng.poisson(light.std() * intensity * 255, light.shape) / 255
        hls[..., 0] = (hue + rng.normal(0, color_shift * 360 * intensity, hue.shape)) % 360
        hls[..., 1] = light + brighter * (1 - light)
        return np.asarray(np.clip(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB) * 255, 0, 255), dtype=np.uint8)


class ImageNetAug(A.Compose):  # type: ignore[misc]
    """DocClassifier's set for training on ImageNet: geometry only."""

    def __init__(self, image_size: Size, p: float, seed: int) -> None:
        super().__init__([_geometry(image_size)], p=p, seed=seed)


class DefaultImageAug(A.Compose):  # type: ignore[misc]
    """DocClassifier's set for documents: geometry, focus, noise and colour, each half of the time."""

    def __init__(self, image_size: Size, p: float, seed: int) -> None:
        super().__init__([_geometry(image_size), _focus(), _noise(), _colour()], p=p, seed=seed)


class ImageNetAugFintune(DefaultImageAug):
    """What DocClassifier fine-tunes with after ImageNet: `DefaultImageAug` by its name there."""


class CaptureAug(A.Compose):  # type: ignore[misc]
    """A cheaper `camera.capture`: perspective and crop, light, focus, noise, JPEG."""

    def __init__(self, image_size: Size, p: float, seed: int) -> None:
        steps = [
            _Perspective(scale=(0.01, 0.06), keep_size=True, p=0.8),
            _Affine(
                scale=(0.82, 1.06),
                translate_percent={"x": (-0.05, 0.05), "y": (-0.05, 0.05)},
                rotate=(-6, 6),
                keep_ratio=False,
                p=0.8,
            ),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=(3, 5), sigma_limit=(0.4, 1.2)),
                    A.MotionBlur(blur_limit=(3, 5)),
                ],
                p=0.4,
            ),
            # Brightness mostly downwards: brighter burns the print of a white form away.
            A.ColorJitter(brightness=(0.6, 1.15), contrast=0.2, saturation=0.2, hue=0.03, p=0.7),
            A.PlasmaShadow(shadow_intensity_range=(0.1, 0.4), p=0.2),
            A.GaussNoise(std_range=(0.005, 0.04), p=0.4),
            A.ImageCompression(quality_range=(40, 95), p=0.3),
        ]
        super().__init__(steps, p=p, seed=seed)


AUGMENTATIONS: dict[str, Callable[[Size, float, int], A.Compose]] = {
    cls.__name__: cls for cls in (DefaultImageAug, ImageNetAug, ImageNetAugFintune, CaptureAug)
}


def _geometry(image_size: Size) -> A.OneOf:
    """Crop twice as often as shift: `OneOf` weighs by p, whose default is 1 for a crop and 0.5 otherwise."""
    crop = A.RandomResizedCrop(size=image_size, scale=(0.8, 1.0), p=1.0)
    # 1.x's ShiftScaleRotate with limits 0.1, 0.1 and 15, written as 2.0.8 needs it.
    shift = _Affine(
        scale=(0.9, 1.1),
        translate_percent={"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
        rotate=(-15, 15),
        keep_ratio=True,
        p=0.5,
    )
    return A.OneOf([crop, shift], p=0.5)


def _focus() -> A.OneOf:
    steps = [
        A.MotionBlur(blur_limit=(3, 7)),
        A.MedianBlur(blur_limit=(3, 7)),
        # 1.x derived sigma from the kernel as OpenCV does: 0.8, 1.1 and 1.4 for 3, 5 and 7.
        A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.8, 1.4)),
        A.ZoomBlur(max_factor=(1.0, 1.31), step_factor=(0.01, 0.03)),
        A.Defocus(radius=(3, 5), alias_blur=(0.1, 0.5)),
        A.ImageCompression(quality_range=(1, 50)),  # 0 to 50; libjpeg reads 0 as 1
    ]
    return A.OneOf(steps, p=0.5)


def _noise() -> A.OneOf:
    steps = [
        SensorNoise(color_shift=(0.01, 0.05), intensity=(0.1, 0.5)),
        # var_limit 10 to 50 in gray levels squared; now a standard deviation in [0, 1].
        A.GaussNoise(std_range=(10**0.5 / 255, 50**0.5 / 255)),
        A.MultiplicativeNoise(multiplier=(0.5, 1.5), per_channel=True, elementwise=True),
    ]
    return A.OneOf(steps, p=0.5)


def _colour() -> A.OneOf:
    steps = [
        A.ColorJitter(brightness=0.3, contrast=0.1, saturation=0.1, hue=0.2),
        A.ToGray(),
        A.ToSepia(),
        A.ChannelShuffle(),
        A.ChannelDropout(),
        A.RGBShift(r_shift_limit=20, g_shift_limit=20, b_shift_limit=20),
        A.InvertImg(),
    ]
    return A.OneOf(steps, p=0.5)


def reseed(augmentation: A.Compose, seed: list[int]) -> None:
    """Make the next call depend on `seed` alone.

    One pair of generators serves all transforms, which is 20 times cheaper than `set_random_seed`, which
    builds a pair for each.
    """
    generator = np.random.default_rng(seed)
    augmentation.set_random_state(generator, random.Random(int(generator.integers(1 << 62))))


def augmented(augmentation: A.Compose, image: NDArray[np.uint8], seed: list[int]) -> NDArray[np.uint8]:
    """Augment `image` (uint8 [h, w, 3]), as a function of image, augmentation and `seed` alone."""
    reseed(augmentation, seed)
    return np.asarray(augmentation(image=image)["image"])
