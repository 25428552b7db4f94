"""Steps that change the values of pixels: colour, light and noise."""

from __future__ import annotations

import math

import albumentations as A
import kornia.color as kc
import kornia.enhance as ke
import kornia.filters as kf
import torch
from kornia.color.sepia import sepia_from_rgb
from torch import Tensor

from otter_ray.projects.docclassifier.data.augment.cpu import SensorNoise
from otter_ray.projects.docclassifier.data.augment.device.draw import Draw, per_image, rows_of

_DIAGONAL = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
_NEXT = [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def jitter(step: A.ColorJitter, images: Tensor, draw: Draw) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in an order of its own.

    The first three move it towards or away from black, its mean gray, and its own gray.
    """
    count = len(images)
    limits = (step.brightness, step.contrast, step.saturation, step.hue)
    strengths = torch.stack([draw.uniform_here(each, count) for each in limits], 1)
    orders = draw.orders(count, len(limits))
    drawn = strengths.gather(1, orders).T
    contrasts, saturations, hues = ((orders == number).T for number in (1, 2, 3))
    weights = draw.send(torch.stack([contrasts, saturations, drawn.where(~hues, 1.0), drawn], 1))
    for here, there in zip(hues, weights[..., None, None, None], strict=True):
        by_mean, by_own, strength, turns = there
        gray = kc.rgb_to_grayscale(images)
        target = gray * by_own + gray.mean((2, 3), keepdim=True) * by_mean
        images = target.lerp(images, strength).clamp(0, 1)
        rows = draw.send(rows_of(here))
        images.index_copy_(0, rows, _turned_hue(images[rows], turns[rows]))
    return images


def _turned_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn hues by `[N, 1, 1, 1]` full turns, in HSV. kornia's conversions launch four times as much."""
    value, largest = images.max(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # In sixths of a turn: red's, green's or blue's, and from there towards the larger of the other two.
    towards = (images.roll(-1, 1) - images.roll(-2, 1)).gather(1, largest) / chroma.clamp(min=1e-6)
    hue = 2 * largest + towards + 6 * turns
    away = (hue + torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)) % 6
    return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)


def plasma_shadow(step: A.PlasmaShadow, images: Tensor, draw: Draw) -> Tensor:
    """Shade images by a fractal, of which only the last level is drawn.

    With `roughness` 3 it is 81 times as strong as all levels before it at 64 px, and 243 times at 128 px, so
    that those cannot be seen.
    """
    count, (height, width) = len(images), images.shape[-2:]
    noise = torch.rand(count, 1, height, width, generator=draw.pixels, device=images.device) * 2 - 1
    shades = torch.zeros_like(noise)
    shades[..., ::2, ::2] = noise[..., ::2, ::2]
    for neighbours in (_DIAGONAL, _NEXT):
        means = kf.filter2d(shades, draw.send(torch.tensor(neighbours))[None] / 4, "constant")
        shades = shades + (means + noise) * (means > 0)
    shades = ke.normalize_min_max(shades)
    return images * (1 - per_image(draw.uniform(step.shadow_intensity_range, count)) * shades)


def gauss_noise(step: A.GaussNoise, images: Tensor, draw: Draw) -> Tensor:
    """Add noise to each pixel and channel, of one strength for an image."""
    noise = torch.randn(images.shape, generator=draw.pixels, device=images.device)
    return images + _whole_levels(noise * per_image(draw.uniform(step.std_range, len(images))))


def multiplicative_noise(step: A.MultiplicativeNoise, images: Tensor, draw: Draw) -> Tensor:
    """Multiply each pixel and channel by a factor of its own."""
    low, high = step.multiplier
    noise = torch.rand(images.shape, generator=draw.pixels, device=images.device)
    noisy: Tensor = images * (low + (high - low) * noise)
    return noisy


def sensor_noise(step: SensorNoise, images: Tensor, draw: Draw) -> Tensor:
    """Brighten pixels and turn hues, as `SensorNoise` does."""
    count = len(images)
    hue, light, saturation = kc.rgb_to_hls(images).unbind(1)
    shift, intensity = (
        draw.uniform(limits, count)[:, None, None] for limits in (step.color_shift, step.intensity)
    )
    spread = light.std((1, 2), correction=0, keepdim=True)
    brighter = torch.poisson((spread * intensity * 255).expand_as(light), generator=draw.pixels) / 255
    turn = torch.randn(hue.shape, generator=draw.pixels, device=hue.device) * shift * 2 * math.pi * intensity
    light = light + brighter * (1 - light)
    rgb = kc.hls_to_rgb(torch.stack([(hue + turn) % (2 * math.pi), light, saturation], 1))
    # Only this step rounds down to bytes: half of a gray level is a sixth of its effect.
    return (rgb * 255).floor() / 255


def rgb_shift(step: A.RGBShift, images: Tensor, draw: Draw) -> Tensor:
    """Shift each channel of an image."""
    shifts = [draw.uniform(limits, len(images)) for limits in step.noise_params["ranges"]]
    return images + _whole_levels(torch.stack(shifts, 1)[..., None, None])


def _whole_levels(noise: Tensor) -> Tensor:
    """Round towards 0 to whole gray levels of 255, as albumentations adds them to an image of bytes."""
    return (noise * 255).trunc() / 255


def channel_shuffle(step: A.ChannelShuffle, images: Tensor, draw: Draw) -> Tensor:
    """Reorder the channels of each image."""
    orders = draw.send(draw.orders(len(images), 3))
    return images.gather(1, orders[..., None, None].expand_as(images))


def channel_dropout(step: A.ChannelDropout, images: Tensor, draw: Draw) -> Tensor:
    """Replace some channels of each image by `fill`."""
    low, high = step.channel_drop_range
    counts = draw.integers(low, high, len(images))[:, None]
    dropped = draw.send(draw.orders(len(images), 3) < counts)
    return images.masked_fill(dropped[..., None, None], step.fill / 255)


def gray(step: A.ToGray, images: Tensor, draw: Draw) -> Tensor:
    """Make the three channels equal."""
    return kc.rgb_to_grayscale(images).expand_as(images)


def sepia(step: A.ToSepia, images: Tensor, draw: Draw) -> Tensor:
    """Make images brownish, as in old photographs."""
    return sepia_from_rgb(images, rescale=False)


def inverted(step: A.InvertImg, images: Tensor, draw: Draw) -> Tensor:
    """Invert images."""
    return 1 - images
