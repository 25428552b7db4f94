"""Steps that lose detail: blurs, with a kernel of its own for each image, and JPEG."""

from __future__ import annotations

import math
from functools import lru_cache
from io import BytesIO

import albumentations as A
import kornia.filters as kf
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from otter_ray.projects.docclassifier.data.augment.device.draw import Draw, changed, rows_of

# Of red, green and blue (JFIF). albumentations hands RGB to OpenCV, which takes it for BGR.
_TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float32
).flip(1)


def gaussian_blur(step: A.GaussianBlur, images: Tensor, draw: Draw) -> Tensor:
    """Blur by a Gaussian of a size and a sigma that each image draws."""
    count, reach = len(images), step.blur_limit[1] // 2
    # An even size becomes the next odd size.
    sizes = draw.integers(*step.blur_limit, count)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    sigmas = draw.uniform(step.sigma_limit, count)
    kernels = torch.exp(-0.5 * (places / sigmas[:, None]) ** 2)
    kernels = kernels * (places.abs() <= draw.send(sizes // 2)[:, None])
    kernels = kernels / kernels.sum(1, keepdim=True)
    return kf.filter2d_separable(images, kernels, kernels)


def motion_blur(step: A.MotionBlur, images: Tensor, draw: Draw) -> Tensor:
    """Blur along a line of a length and a direction that each image draws."""
    count, reach = len(images), step.blur_limit[1] // 2
    lengths = draw.send(draw.odd(step.blur_limit, count) // 2)[:, None]
    angles = torch.deg2rad(draw.uniform(step.angle_range, count, 1))
    leaning = draw.uniform(step.direction_range, count, 1)
    begin, end = -lengths * (1 - leaning.clamp(min=0)), lengths * (1 + leaning.clamp(max=0))
    # A line of 2 * length + 1 points; the points beyond coincide with its last one.
    along = torch.arange(2 * reach + 1, device=images.device) / (2 * lengths)
    points = begin + (end - begin) * along.clamp(max=1)
    shifts = draw.uniform((-1, 1), 2, count, 1) * lengths / 2 * step.allow_shifted
    x = (angles.cos() * points + shifts[0]).round().clamp(-lengths, lengths).long() + reach
    y = (angles.sin() * points + shifts[1]).round().clamp(-lengths, lengths).long() + reach
    kernels = images.new_zeros(count, (2 * reach + 1) ** 2).scatter(1, y * (2 * reach + 1) + x, 1.0)
    kernels = kernels / kernels.sum(1, keepdim=True)
    return kf.filter2d(images, kernels.view(count, 2 * reach + 1, 2 * reach + 1))


def defocus(step: A.Defocus, images: Tensor, draw: Draw) -> Tensor:
    """Blur by a disk of a radius that each image draws."""
    count, reach = len(images), step.radius[1] + 2
    radii = draw.send(draw.integers(*step.radius, count))
    places = torch.arange(-reach, reach + 1, device=images.device)
    disks = (places[:, None] ** 2 + places**2 <= radii[:, None, None] ** 2).float()
    sigmas = draw.uniform_here(step.alias_blur, count)[:, None].expand(count, 2)
    kernels = kf.gaussian_blur2d(disks[:, None], 3, sigmas)[:, 0]
    return kf.filter2d(images, kernels / kernels.sum((1, 2), keepdim=True))


def median_blur(step: A.MedianBlur, images: Tensor, draw: Draw) -> Tensor:
    """Take the median over a square of a size that each image draws."""
    sizes = draw.odd(step.blur_limit, len(images))
    for size in {*sizes.tolist()}:
        images = changed(images, rows_of(sizes == size), _median, size)
    return images


def _median(images: Tensor, size: int) -> Tensor:
    """Take the median of size x size pixels, in gray levels: bytes are sorted twice as fast.

    Deterministic algorithms refuse kornia's, which is `torch.median`.
    """
    padded = F.pad((images * 255).round(), [size // 2] * 4, mode="replicate").byte()
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return windows.sort(4).values[..., size**2 // 2] / 255


def jpeg(step: A.ImageCompression, images: Tensor, draw: Draw) -> Tensor:
    """Lose what JPEG loses: chroma of half the size, and blocks of 8 x 8 in whole coefficients.

    kornia's codec is differentiable: it rounds smoothly, and launches four times as many kernels.
    """
    height, width = images.shape[-2:]
    qualities = draw.integers(*step.quality_range, len(images))
    scales = torch.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)  # libjpeg's, in percent
    tables = (_quantization() * scales.view(-1, 1, 1, 1) + 50).floor_divide(100).clamp(1, 255)
    tables = draw.send(tables.byte()).float()  # as bytes: a larger copy would wait for the device
    padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("cd,ndhw->nchw", draw.send(_TO_YCC), padded * 255)
    luma = _coded(ycc[:, :1] - 128, tables[:, :1], draw).clamp(-128, 127) + 128
    chroma = _coded(F.avg_pool2d(ycc[:, 1:], 2), tables[:, 1:], draw).clamp(-128, 127)
    ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="bilinear")], 1)
    return torch.einsum("cd,ndhw->nchw", draw.send(_TO_YCC.inverse()), ycc)[..., :height, :width] / 255


def _coded(planes: Tensor, table: Tensor, draw: Draw) -> Tensor:
    """Round the cosine transforms of blocks of `[N, C, H, W]` to multiples of tables `[N, 1, 8, 8]`."""
    cosines, divisors = draw.send(_cosines()), table[:, :, None, :, None]
    along = (torch.unflatten(planes, 3, (-1, 8)) @ cosines.T).flatten(3)
    blocks = torch.unflatten(cosines @ torch.unflatten(along, 2, (-1, 8)), 4, (-1, 8))
    blocks = (blocks / divisors).round() * divisors  # [N, C, H / 8, 8, W / 8, 8]
    along = (cosines.T @ blocks.flatten(4)).flatten(2, 3)
    return (torch.unflatten(along, 3, (-1, 8)) @ cosines).flatten(3)


@lru_cache
def _cosines() -> Tensor:
    """Return the orthonormal cosine transform of 8 values (DCT-II), `[8, 8]`."""
    turns = torch.arange(8)[:, None] * (2 * torch.arange(8) + 1)
    cosines = (turns * math.pi / 16).cos() / 2
    cosines[0] /= math.sqrt(2)
    return cosines


@lru_cache
def _quantization() -> Tensor:
    """Return libjpeg's tables of luma and chroma at quality 50, `[2, 8, 8]`, read from a file."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    file.seek(0)
    tables = JpegImageFile(file).quantization
    return torch.tensor([tables[number] for number in (0, 1)]).view(2, 8, 8)
