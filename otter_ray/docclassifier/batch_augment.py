"""The sets of `augment` for whole batches, on whatever device they are.

albumentations changes one image at a time on the CPU, which cannot feed a fast GPU. Here the same steps,
read from the same set, are applied to a batch by kornia's operations. Each image still draws its own steps
and strengths. What comes out has albumentations' distribution, not its bits: values are not rounded to 1/255
between two steps, nor coefficients to integers but nearly so in kornia's JPEG; a mirrored border does not
repeat its outermost pixel, and what was cropped or zoomed is read beyond its edge by half of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import albumentations as A
import cv2
import kornia.color as kc
import kornia.enhance as ke
import kornia.filters as kf
import kornia.geometry.transform as kg
import numpy as np
import torch
import torch.nn.functional as F
from kornia.color.sepia import sepia_from_rgb
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from otter_ray.docclassifier.augment import SensorNoise
from otter_ray.docclassifier.items import option_key
from otter_ray.errors import DataError
from otter_ray.train.augment import BORDERS

_DIAGONAL = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
_NEXT = [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
# Of red, green and blue (JFIF). albumentations hands RGB to OpenCV, which takes it for BGR.
_TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
).flip(1)
_TRIES = 10  # of albumentations, for a crop that fits


def augment_batch(augmentation: A.Compose, images: Tensor, seed: Sequence[int]) -> Tensor:
    """Images `[N, 3, H, W]`, float32 in [0, 1], after the set, as a function of the two and `seed` alone.

    The draws are the same on every device, but for the noise in pixels. DataError: the set has a step that
    is not in `OPERATIONS`.
    """
    # A trainer's precision may be the default one.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            return _maybe(images.clone(), augmentation, Draw(seed, images.device))
    finally:
        torch.set_default_dtype(default)


class Draw:
    """Random numbers for a batch: which images and how strongly from a generator on the CPU, which the host
    may look at without waiting for the device; noise in pixels from one on the device."""

    def __init__(self, seed: Sequence[int], device: torch.device) -> None:
        strengths, noise = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self.device = device
        self.host = torch.Generator().manual_seed(int(strengths))
        self.pixels = torch.Generator(device).manual_seed(int(noise))

    def send(self, values: Tensor) -> Tensor:
        """From the host to the device, without waiting for it."""
        return values.to(self.device, non_blocking=True)

    def uniform(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Of `shape`, on the device."""
        return self.send(self.uniform_here(limits, *shape))

    def uniform_here(self, limits: Sequence[float], *shape: int) -> Tensor:
        """Of `shape`, on the host: what is looked at on the way to the device would make it wait."""
        low, high = limits
        return low + (high - low) * torch.rand(shape, generator=self.host)

    def normal(self, *shape: int) -> Tensor:
        """Of `shape`, on the host."""
        return torch.randn(shape, generator=self.host)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """In [low, high], of `shape`, on the host."""
        return torch.randint(low, high + 1, shape, generator=self.host)

    def odd(self, limits: Sequence[int], count: int) -> Tensor:
        """Odd numbers between two odd ones, on the host."""
        return 2 * self.integers(limits[0] // 2, limits[1] // 2, count) + 1

    def orders(self, count: int, length: int) -> Tensor:
        """Permutations `[count, length]`, on the host."""
        return torch.rand((count, length), generator=self.host).argsort(dim=1)

    def chosen(self, count: int, p: float) -> Tensor:
        """Numbers of images, each with probability p, on the host."""
        return _rows(torch.rand(count, generator=self.host) < p)

    def one_of(self, weights: Sequence[float], count: int) -> Tensor:
        """The number of a weight for each image, on the host."""
        return torch.multinomial(torch.tensor(weights), count, replacement=True, generator=self.host)


def _maybe(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """After a step that changes each image with probability `step.p`."""
    return _changed(images, draw.chosen(len(images), step.p), _applied, step, draw)


def _applied(images: Tensor, step: A.BasicTransform | A.BaseCompose, draw: Draw) -> Tensor:
    """After a step, one of several, or all of a set: every image is changed."""
    if isinstance(step, A.OneOf):
        numbers = draw.one_of([each.p for each in step.transforms], len(images))
        for number, each in enumerate(step.transforms):
            images = _changed(images, _rows(numbers == number), _applied, each, draw)
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


def _changed(images: Tensor, rows: Tensor, change: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The images with some of them changed, in place, whose numbers the host knows."""
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, *arguments)
    rows = rows.to(images.device, non_blocking=True)
    return images.index_copy_(0, rows, change(images[rows], *arguments))


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero()[:, 0]


def _strength(values: Tensor) -> Tensor:
    """`[N]` as `[N, 1, 1, 1]`."""
    return values.view(-1, 1, 1, 1)


def _warped(images: Tensor, matrices: Tensor, draw: Draw) -> Tensor:
    """By matrices `[N, 3, 3]` from pixels to pixels, on the host; each image draws its border as in
    `BorderValueMixin`."""
    modes = torch.tensor(BORDERS)[draw.integers(0, len(BORDERS) - 1, len(images))]
    colours = draw.integers(0, 255, len(images), 3) / 255 * (modes == cv2.BORDER_CONSTANT)[:, None]
    modes, shift = draw.send(_strength(modes)), draw.send(colours)[..., None, None]
    places = _places(matrices, images, draw)
    # A wave that goes up from -1 to 1 and down again: a mirror at either edge.
    mirrored = 1 - ((places + 1).remainder(4) - 2).abs()
    places = places.where(modes != cv2.BORDER_REPLICATE, places.clamp(-1, 1))
    places = places.where(modes != cv2.BORDER_REFLECT, mirrored)
    # What is outside becomes 0, which is the colour.
    return F.grid_sample(images - shift, places, align_corners=True) + shift


def _places(matrices: Tensor, images: Tensor, draw: Draw) -> Tensor:
    """Where an image after matrices `[N, 3, 3]` from pixels to pixels, on the host, is read: `[N, H, W, 2]`,
    x and y, the centres of the outermost pixels being -1 and 1.

    As kornia's `warp_perspective`, which inverts on the device and launches five times as many kernels.
    """
    height, width = images.shape[-2:]
    unit = _shifting(torch.tensor([-1.0]), torch.tensor([-1.0])) @ _scaling(
        torch.tensor([2 / (width - 1)]), torch.tensor([2 / (height - 1)])
    )
    x, y, one = draw.send(unit @ torch.linalg.inv(matrices)).unbind(2)
    across = x[:, None] * torch.arange(width, device=images.device)[:, None]
    down = y[:, None] * torch.arange(height, device=images.device)[:, None] + one[:, None]
    read = down[:, :, None] + across[:, None]
    return read[..., :2] / read[..., 2:]


def _warp(images: Tensor, matrices: Tensor, draw: Draw) -> Tensor:
    """By matrices `[N, 3, 3]` from pixels to pixels, on the host; beyond an edge lies its last pixel."""
    return F.grid_sample(images, _places(matrices, images, draw), padding_mode="border", align_corners=True)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """Matrices `[N, 3, 3]` that scale by x and y, each `[N]`."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _shifting(x: Tensor, y: Tensor) -> Tensor:
    """Matrices `[N, 3, 3]` that shift by x and y, each `[N]`."""
    matrices = torch.eye(3).repeat(len(x), 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def _perspective(step: A.Perspective, images: Tensor, draw: Draw) -> Tensor:
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


def _affine(step: A.Affine, images: Tensor, draw: Draw) -> Tensor:
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


def _crop(step: A.RandomResizedCrop, images: Tensor, draw: Draw) -> Tensor:
    count, (height, width) = len(images), images.shape[-2:]
    areas = draw.uniform_here(step.scale, count, _TRIES) * height * width
    ratios = draw.uniform_here([math.log(ratio) for ratio in step.ratio], count, _TRIES).exp()
    widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
    fits = (widths <= width) & (heights <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    across, down = widths.gather(1, first)[:, 0], heights.gather(1, first)[:, 0]
    left = (draw.uniform_here((0, 1), count) * (width - across + 1)).floor()
    top = (draw.uniform_here((0, 1), count) * (height - down + 1)).floor()
    # Where none fits: the middle, as wide and as high as the ratios allow.
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


def _gaussian_blur(step: A.GaussianBlur, images: Tensor, draw: Draw) -> Tensor:
    count, reach = len(images), step.blur_limit[1] // 2
    # An even size becomes the next odd one.
    sizes = draw.integers(*step.blur_limit, count)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    sigmas = draw.uniform(step.sigma_limit, count)
    kernels = torch.exp(-0.5 * (places / sigmas[:, None]) ** 2)
    kernels = kernels * (places.abs() <= draw.send(sizes // 2)[:, None])
    kernels = kernels / kernels.sum(1, keepdim=True)
    return kf.filter2d_separable(images, kernels, kernels)


def _motion_blur(step: A.MotionBlur, images: Tensor, draw: Draw) -> Tensor:
    count, reach = len(images), step.blur_limit[1] // 2
    lengths = draw.send(draw.odd(step.blur_limit, count) // 2)[:, None]
    angles = torch.deg2rad(draw.uniform(step.angle_range, count, 1))
    leaning = draw.uniform(step.direction_range, count, 1)
    begin, end = -lengths * (1 - leaning.clamp(min=0)), lengths * (1 + leaning.clamp(max=0))
    # A line of 2 * length + 1 points; the others of a longer one fall on its last.
    along = torch.arange(2 * reach + 1, device=images.device) / (2 * lengths)
    points = begin + (end - begin) * along.clamp(max=1)
    shifts = draw.uniform((-1, 1), 2, count, 1) * lengths / 2 * step.allow_shifted
    x = (angles.cos() * points + shifts[0]).round().clamp(-lengths, lengths).long() + reach
    y = (angles.sin() * points + shifts[1]).round().clamp(-lengths, lengths).long() + reach
    kernels = images.new_zeros(count, (2 * reach + 1) ** 2).scatter(1, y * (2 * reach + 1) + x, 1.0)
    kernels = kernels / kernels.sum(1, keepdim=True)
    return kf.filter2d(images, kernels.view(count, 2 * reach + 1, 2 * reach + 1))


def _median_blur(step: A.MedianBlur, images: Tensor, draw: Draw) -> Tensor:
    sizes = draw.odd(step.blur_limit, len(images))
    for size in {*sizes.tolist()}:
        images = _changed(images, _rows(sizes == size), _median, size)
    return images


def _median(images: Tensor, size: int) -> Tensor:
    """Of size x size pixels, in gray levels, of which a byte is sorted twice as fast. kornia's, which is
    `torch.median`, is refused by deterministic algorithms."""
    padded = F.pad((images * 255).round(), [size // 2] * 4, mode="replicate").byte()
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return windows.sort(4).values[..., size**2 // 2] / 255


def _zoom_blur(step: A.ZoomBlur, images: Tensor, draw: Draw) -> Tensor:
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
    return total / draw.send(_strength(zooms + 1))


def _zoom_along(side: int, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift before it, both `[N]`, of a zoom that crops and enlarges whole pixels."""
    crops = (side / factors).ceil()
    sizes = (crops * factors).floor()
    starts, trims = (side - crops) // 2, (sizes - side) // 2
    scales = sizes / crops
    return scales, 0.5 - starts - (trims + 0.5) / scales


def _defocus(step: A.Defocus, images: Tensor, draw: Draw) -> Tensor:
    count, reach = len(images), step.radius[1] + 2
    radii = draw.send(draw.integers(*step.radius, count))
    places = torch.arange(-reach, reach + 1, device=images.device)
    disks = (places[:, None] ** 2 + places**2 <= radii[:, None, None] ** 2).float()
    sigmas = draw.uniform_here(step.alias_blur, count)[:, None].expand(count, 2)
    kernels = kf.gaussian_blur2d(disks[:, None], 3, sigmas)[:, 0]
    return kf.filter2d(images, kernels / kernels.sum((1, 2), keepdim=True))


def _jpeg(step: A.ImageCompression, images: Tensor, draw: Draw) -> Tensor:
    """What JPEG loses: chroma of half the size, and blocks of 8 x 8 in whole coefficients.

    kornia's codec is made to be learned through: it rounds smoothly, and launches four times as many kernels.
    """
    height, width = images.shape[-2:]
    qualities = draw.integers(*step.quality_range, len(images))
    scales = torch.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)  # libjpeg's, in percent
    tables = (_quantization() * scales.view(-1, 1, 1, 1) + 50).floor_divide(100).clamp(1, 255)
    tables = draw.send(tables.float())
    padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("cd,ndhw->nchw", draw.send(_TO_YCC), padded * 255)
    luma = _coded(ycc[:, :1] - 128, tables[:, :1], draw) + 128
    chroma = _coded(F.avg_pool2d(ycc[:, 1:], 2), tables[:, 1:], draw)
    ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="bilinear")], 1)
    return torch.einsum("cd,ndhw->nchw", draw.send(_TO_YCC.inverse()), ycc)[..., :height, :width] / 255


def _coded(planes: Tensor, table: Tensor, draw: Draw) -> Tensor:
    """Planes `[N, C, H, W]` whose blocks' cosine transforms are whole multiples of tables `[N, 1, 8, 8]`."""
    cosines, steps = draw.send(_cosines()), table[:, :, None, :, None]
    along = (torch.unflatten(planes, 3, (-1, 8)) @ cosines.T).flatten(3)
    blocks = torch.unflatten(cosines @ torch.unflatten(along, 2, (-1, 8)), 4, (-1, 8))
    blocks = (blocks / steps).round() * steps  # [N, C, H / 8, 8, W / 8, 8]
    along = (cosines.T @ blocks.flatten(4)).flatten(2, 3)
    return (torch.unflatten(along, 3, (-1, 8)) @ cosines).flatten(3)


@lru_cache
def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values (DCT-II), `[8, 8]`."""
    turns = torch.arange(8)[:, None] * (2 * torch.arange(8) + 1)
    cosines = (turns * math.pi / 16).cos() / 2
    cosines[0] /= math.sqrt(2)
    return cosines


@lru_cache
def _quantization() -> Tensor:
    """libjpeg's tables of luma and chroma at quality 50, `[2, 8, 8]`: the standard's, read off a file."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    file.seek(0)
    tables = JpegImageFile(file).quantization
    return torch.tensor([tables[number] for number in (0, 1)]).view(2, 8, 8)


def _colour_jitter(step: A.ColorJitter, images: Tensor, draw: Draw) -> Tensor:
    """Each image in an order of its own: away from or towards black, its mean gray, or its own gray
    (brightness, contrast, saturation), and a turn of its hue."""
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
        rows = draw.send(_rows(here))
        images.index_copy_(0, rows, _turned_hue(images[rows], turns[rows]))
    return images


def _turned_hue(images: Tensor, turns: Tensor) -> Tensor:
    """By `[N, 1, 1, 1]` full turns, in HSV. kornia's way there and back launches four times as much."""
    value, largest = images.max(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # In sixths of a turn: red's, green's or blue's, and from there towards the larger of the other two.
    towards = (images.roll(-1, 1) - images.roll(-2, 1)).gather(1, largest) / chroma.clamp(min=1e-6)
    hue = 2 * largest + towards + 6 * turns
    away = (hue + torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)) % 6
    return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)


def _plasma_shadow(step: A.PlasmaShadow, images: Tensor, draw: Draw) -> Tensor:
    """By the last level alone of the fractal: with `roughness` 3 it is 81 times as strong as all before at
    64 px, and 243 at 128, which are therefore not seen."""
    count, (height, width) = len(images), images.shape[-2:]
    noise = torch.rand(count, 1, height, width, generator=draw.pixels, device=images.device) * 2 - 1
    shades = torch.zeros_like(noise)
    shades[..., ::2, ::2] = noise[..., ::2, ::2]
    for neighbours in (_DIAGONAL, _NEXT):
        means = kf.filter2d(shades, draw.send(torch.tensor(neighbours))[None] / 4, "constant")
        shades = shades + (means + noise) * (means > 0)
    shades = ke.normalize_min_max(shades)
    return images * (1 - _strength(draw.uniform(step.shadow_intensity_range, count)) * shades)


def _gauss_noise(step: A.GaussNoise, images: Tensor, draw: Draw) -> Tensor:
    noise = torch.randn(images.shape, generator=draw.pixels, device=images.device)
    return images + _whole_levels(noise * _strength(draw.uniform(step.std_range, len(images))))


def _multiplicative_noise(step: A.MultiplicativeNoise, images: Tensor, draw: Draw) -> Tensor:
    low, high = step.multiplier
    noise = torch.rand(images.shape, generator=draw.pixels, device=images.device)
    noisy: Tensor = images * (low + (high - low) * noise)
    return noisy


def _sensor_noise(step: SensorNoise, images: Tensor, draw: Draw) -> Tensor:
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
    # The one step that rounds down to bytes; half of a gray level is a sixth of its effect.
    return (rgb * 255).floor() / 255


def _channel_shuffle(step: A.ChannelShuffle, images: Tensor, draw: Draw) -> Tensor:
    orders = draw.send(draw.orders(len(images), 3))
    return images.gather(1, orders[..., None, None].expand_as(images))


def _channel_dropout(step: A.ChannelDropout, images: Tensor, draw: Draw) -> Tensor:
    low, high = step.channel_drop_range
    counts = draw.integers(low, high, len(images))[:, None]
    dropped = draw.send(draw.orders(len(images), 3) < counts)
    return images.masked_fill(dropped[..., None, None], step.fill / 255)


def _rgb_shift(step: A.RGBShift, images: Tensor, draw: Draw) -> Tensor:
    shifts = [draw.uniform(limits, len(images)) for limits in step.noise_params["ranges"]]
    return images + _whole_levels(torch.stack(shifts, 1)[..., None, None])


def _whole_levels(noise: Tensor) -> Tensor:
    """Of 255, towards 0: what albumentations adds to an image of bytes."""
    return (noise * 255).trunc() / 255


def _gray(step: A.ToGray, images: Tensor, draw: Draw) -> Tensor:
    return kc.rgb_to_grayscale(images).expand_as(images)


def _sepia(step: A.ToSepia, images: Tensor, draw: Draw) -> Tensor:
    return sepia_from_rgb(images, rescale=False)


def _inverted(step: A.InvertImg, images: Tensor, draw: Draw) -> Tensor:
    return 1 - images


# Of everything that a set is made of.
OPERATIONS: dict[type, Callable[[Any, Tensor, Draw], Tensor]] = {
    A.Affine: _affine,
    A.ChannelDropout: _channel_dropout,
    A.ChannelShuffle: _channel_shuffle,
    A.ColorJitter: _colour_jitter,
    A.Defocus: _defocus,
    A.GaussianBlur: _gaussian_blur,
    A.GaussNoise: _gauss_noise,
    A.ImageCompression: _jpeg,
    A.InvertImg: _inverted,
    A.MedianBlur: _median_blur,
    A.MotionBlur: _motion_blur,
    A.MultiplicativeNoise: _multiplicative_noise,
    A.Perspective: _perspective,
    A.PlasmaShadow: _plasma_shadow,
    A.RandomResizedCrop: _crop,
    A.RGBShift: _rgb_shift,
    A.ToGray: _gray,
    A.ToSepia: _sepia,
    A.ZoomBlur: _zoom_blur,
    SensorNoise: _sensor_noise,
}
