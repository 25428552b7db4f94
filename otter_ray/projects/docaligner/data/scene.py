"""Simulate photographs of a document: pose it, bend it, cover it, light it, and take it with a phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.docaligner import corners as labels
from otter_ray.projects.docaligner.data.backdrops import add_clutter
from otter_ray.vision import camera

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Points = NDArray[np.float64]

LONG_SIDE: Final = 1920.0  # of the photograph that is imagined, in px
_MARGIN = 0.01  # of the frame, around a document
_SMALL = 160  # up to this size a scene is drawn at twice the size
_SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


@dataclass(frozen=True)
class SceneOptions:
    """How hard scenes are.

    Attributes:
        strength: Scale of light, focus and noise, of bends and clutter, of turns and tilts. The lower it is,
            the larger are the documents.
        occlusion: Share of documents of which something covers an edge.
        patch: Share of documents of which something covers a corner.
        max_turn: Degrees by which a document is turned away from a quarter turn, at strength 1.
        max_tilt: Degrees by which the camera is not above the document, at strength 1.
    """

    strength: float = 1.0
    occlusion: float = 0.3
    patch: float = 0.3
    max_turn: float = 35.0
    max_tilt: float = 45.0


def take_photo(
    rng: np.random.Generator,
    size: tuple[int, int],
    surface: Image,
    paper: tuple[Image, float] | None,
    options: SceneOptions,
) -> tuple[Image, NDArray[np.float32]]:
    """Photograph a document, or the bare surface.

    Args:
        rng: Draws all chances.
        size: (h, w) of the result, to which a photograph of another aspect ratio is squeezed.
        surface: What it lies on, uint8 of `scene_size(size)`.
        paper: The document, uint8 [H, W, 3], and its width divided by its height.
        options: How hard the scene is.

    Returns:
        The photograph, uint8 [h, w, 3], and its label.
    """
    aspect = _frame_aspect(rng)
    frame = np.array([LONG_SIDE, LONG_SIDE / aspect] if aspect > 1 else [LONG_SIDE * aspect, LONG_SIDE])
    scene = surface.copy()
    add_clutter(rng, scene, int(rng.integers(0, 1 + round(6 * options.strength))))
    corners = None
    if paper is not None:
        corners = _pose(rng, paper[1], frame, options)
        scene = _lay(rng, scene, paper[0], corners, options.strength)
        if rng.random() < options.occlusion:
            _cover_edge(rng, scene, corners)
        if rng.random() < options.patch:
            cover_corner(rng, scene, corners)
    elif rng.random() < options.occlusion:
        _cover_edge(rng, scene, _SQUARE * rng.uniform(0.3, 0.6) + rng.uniform(0, 0.4, 2))
    hardness = options.strength * rng.uniform(0.2, 1)
    photo = camera.develop(_focus(rng, scene, hardness), rng, size, hardness)
    if rng.random() < 0.06:
        photo = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    ordered = None if corners is None else labels.in_order(corners)
    return photo, labels.label(ordered, float(frame[0]), float(frame[1]))


def scene_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which a scene is drawn whose photograph has `size`."""
    factor = 2 if max(size) <= _SMALL else 1
    return size[0] * factor, size[1] * factor


def _frame_aspect(rng: np.random.Generator) -> float:
    """Draw width / height of a photograph: as phones take them, cropped ones, or any."""
    usual = [3 / 4, 4 / 3, 9 / 16, 16 / 9, 1.0]
    if rng.random() < 0.7:
        return float(rng.choice(usual, p=[0.35, 0.25, 0.15, 0.1, 0.15]))
    return float(np.exp(rng.uniform(np.log(9 / 16), np.log(16 / 9))))


def _pose(rng: np.random.Generator, aspect: float, frame: Points, options: SceneOptions) -> Points:
    """Return where the document's corners are, `[4, 2]` in fractions of the frame, in its reading order."""
    page = (_SQUARE - 0.5) * [np.sqrt(aspect), np.sqrt(1 / aspect)]
    ease = np.sqrt(options.strength)
    turn = np.deg2rad(np.clip(rng.normal(0, 0.4), -1, 1) * ease * options.max_turn)
    # Most people hold the camera so that the document is as upright or lying as the frame.
    lies = (aspect > 1) != (frame[0] > frame[1])
    quarter = rng.choice([0, 2]) if rng.random() < 0.75 else rng.choice([1, 3])
    turn += np.pi / 2 * (quarter + lies)
    flat = page @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    tilt = np.deg2rad(min(abs(rng.normal(0, 0.45)), 1) * ease * options.max_tilt)
    towards = rng.choice([np.pi / 2, rng.uniform(0, 2 * np.pi)])
    axis = np.array([np.cos(towards), np.sin(towards)])
    along = flat @ axis  # moves away from the camera
    distance = rng.uniform(1.6, 4)
    depth = 1 + along * np.sin(tilt) / distance
    seen = (flat - np.outer(along * (1 - np.cos(tilt)), axis)) / depth[:, None]
    extent = np.ptp(seen, axis=0)
    room = (1 - 2 * _MARGIN) * frame / extent
    if rng.random() < 0.22:  # the page nearly fills the frame
        scale = room.min() * rng.uniform(0.86, 1)
    else:
        share = np.exp(rng.uniform(np.log(0.4 - 0.28 * ease), np.log(0.75)))
        scale = min(np.sqrt(share * frame.prod() / _area(seen)), room.min())
    seen = seen * scale
    slack = frame * (1 - 2 * _MARGIN) - np.ptp(seen, axis=0)
    place = 0.5 + np.clip(rng.normal(0, 0.28, 2), -0.5, 0.5)
    return np.asarray((seen - seen.min(axis=0) + frame * _MARGIN + slack * place) / frame)


def _area(polygon: Points) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _lay(rng: np.random.Generator, scene: Image, paper: Image, corners: Points, strength: float) -> Image:
    """Put the document on the surface, with its shadow."""
    height, width = scene.shape[:2]
    places = corners * (width, height) - 0.5
    sides = np.linalg.norm(places - np.roll(places, -1, axis=0), axis=1)
    wide, tall = (max(4, round(float(max(sides[i], sides[i + 2])))) for i in (0, 1))
    if rng.random() < 0.15 * strength:
        _stack(rng, scene, places)
    page = _print(rng, paper, (tall, wide), strength)
    alpha = _outline(rng, page, strength)
    layer = np.dstack([page, alpha])
    edges = np.array([[-0.5, -0.5], [wide - 0.5, -0.5], [wide - 0.5, tall - 0.5], [-0.5, tall - 0.5]])
    back = cv2.getPerspectiveTransform(places.astype(np.float32), edges.astype(np.float32))
    if rng.random() < 0.4 * strength:
        layer = _bent(rng, layer, back, (height, width), strength)
    else:
        # One pixel around the page becomes soft: interpolation goes on to the border's 0.
        layer = cv2.warpPerspective(
            layer,
            back,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderValue=(0, 0, 0, 0),
        )
    share = np.asarray(layer[..., 3:], np.float32) / np.float32(255)
    below = _thrown_shadow(rng, scene.astype(np.float32), share[..., 0])
    # The page's colours are weighed by its opacity already, and the border's are 0.
    seen = layer[..., :3].astype(np.float32)
    return np.asarray(np.clip(below * (1 - share) + seen, 0, 255), dtype=np.uint8)


def _stack(rng: np.random.Generator, scene: Image, places: Points) -> None:
    """Put more pages, or the thickness of a book, under the page: they look out on one side."""
    shift, tone = rng.normal(0, 0.008, 2) * max(scene.shape), rng.uniform(60, 250) + rng.normal(0, 6, 3)
    for share in np.linspace(1, 0.2, int(rng.integers(1, 6))):
        shade = tuple(float(part) for part in np.clip(tone * rng.uniform(0.75, 1), 0, 255))
        outline = np.round((places + share * shift) * 16).astype(np.int32)
        cv2.fillPoly(scene, [outline], shade, cv2.LINE_AA, 4)


def _print(rng: np.random.Generator, paper: Image, size: tuple[int, int], strength: float) -> Image:
    """Resize the document to its size in the scene, and make it look used."""
    # Without an average over what becomes a pixel, fine print turns into noise, as clients' resizing does.
    way = camera.AREA if rng.random() < 0.6 else camera.BILINEAR
    page = camera.resize(paper, size, way).astype(np.float32)
    page = page * rng.uniform(0.8, 1.06) + strength * rng.normal(0, 5, 3).astype(np.float32)
    if rng.random() < 0.4 * strength:  # folded: the halves catch more or less light
        for axis in rng.integers(0, 2, int(rng.integers(1, 3))).tolist():
            fold = int(size[axis] * rng.uniform(0.2, 0.8))
            soft = np.clip(
                (np.arange(size[axis]) - fold) / max(1.0, rng.uniform(0.005, 0.15) * size[axis]), -1, 1
            )
            shade = 1 + rng.normal(0, 0.09) * soft
            shade[fold : fold + max(1, size[axis] // 90)] *= rng.uniform(0.7, 1.1)
            page *= (shade[:, None, None] if axis == 0 else shade[None, :, None]).astype(np.float32)
    if rng.random() < 0.25 * strength:  # crumpled
        creases = cv2.resize(
            rng.normal(0, 1, (7, 6)).astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR
        )
        page *= 1 + strength * 0.06 * creases[..., None]
    return np.asarray(np.clip(page, 0, 255), dtype=np.uint8)


def _outline(rng: np.random.Generator, page: Image, strength: float) -> Image:
    """Return the page's opacity: cards have round corners, pages are dog-eared or torn."""
    tall, wide = page.shape[:2]
    alpha = np.full((tall, wide), 255, np.uint8)
    chance = rng.random()
    if chance < 0.25:
        radius = rng.uniform(0.015, 0.06) * max(tall, wide)
        away = [
            np.maximum(radius - 0.5 - np.minimum(np.arange(n), np.arange(n)[::-1]), 0) for n in (tall, wide)
        ]
        alpha[:] = np.clip(radius + 0.5 - np.hypot(away[0][:, None], away[1]), 0, 1) * 255
    elif chance < 0.25 + 0.12 * strength:
        _dog_ear(rng, page, alpha)
    page[:] = (page * (alpha[..., None] / np.float32(255))).astype(np.uint8)
    return alpha


def _dog_ear(rng: np.random.Generator, page: Image, alpha: Image) -> None:
    """Fold a corner over: its outer half is gone, and its back lies on the page."""
    tall, wide = page.shape[:2]
    reach = rng.uniform(0.04, 0.16) * min(tall, wide)
    right, bottom = rng.random(2) < 0.5
    corner = np.array([wide - 1.0 if right else 0.0, tall - 1.0 if bottom else 0.0])
    inwards = np.array([-1.0 if right else 1.0, -1.0 if bottom else 1.0])
    first, second = corner + inwards * [reach, 0], corner + inwards * [0, reach * rng.uniform(0.6, 1.6)]
    across = second - first
    normal = np.array([-across[1], across[0]]) / np.linalg.norm(across)
    mirrored = corner - 2 * ((corner - first) @ normal) * normal
    shade = tuple(float(part) for part in np.clip(page.mean((0, 1)) * rng.uniform(0.75, 1.1), 0, 255))
    cv2.fillPoly(
        page, [np.round(np.array([first, second, mirrored]) * 16).astype(np.int32)], shade, cv2.LINE_AA, 4
    )
    outer = corner - inwards * 2
    cut = np.array([first, second, [outer[0], second[1]], outer, [first[0], outer[1]]])
    cv2.fillPoly(alpha, [np.round(cut * 16).astype(np.int32)], 0, cv2.LINE_AA, 4)


def _bent(
    rng: np.random.Generator, layer: Image, back: NDArray[np.float64], size: tuple[int, int], strength: float
) -> Image:
    """Warp the page with edges that are curled: they bow in or out between the corners, which stay."""
    tall, wide = layer.shape[:2]
    x, y = np.meshgrid(np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32))
    matrix = back.astype(np.float32)
    depth = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    depth = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
    u = ((matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / depth + 0.5) / wide
    v = ((matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / depth + 0.5) / tall
    behind = depth * (depth[size[0] // 2, size[1] // 2]) <= 0
    bow = strength * rng.normal(0, 0.02, 4)
    if rng.random() < 0.5:  # rolled: opposite edges bow to the same side
        bow[[1, 3]] = bow[[0, 2]]
        bow = bow * ([1, 1, 0, 0] if rng.random() < 0.5 else [0, 0, 1, 1])
    inner_u, inner_v = np.clip(u, 0, 1), np.clip(v, 0, 1)
    u, v = (
        u + 4 * inner_v * (1 - inner_v) * (bow[0] * (1 - inner_u) + bow[1] * inner_u),
        v + 4 * inner_u * (1 - inner_u) * (bow[2] * (1 - inner_v) + bow[3] * inner_v),
    )
    to_x, to_y = (u * wide - 0.5).astype(np.float32), (v * tall - 0.5).astype(np.float32)
    to_x[behind] = -9
    warped = cv2.remap(
        layer, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0)
    )
    return np.asarray(warped, np.uint8)


def _thrown_shadow(rng: np.random.Generator, scene: Field, share: Field) -> Field:
    """Darken the surface beside the page."""
    if rng.random() < 0.25:
        return scene
    side = max(share.shape)
    shift = rng.normal(0, 0.012, 2) * side
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(share, move, share.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), side * rng.uniform(0.003, 0.03))
    return np.asarray(scene * (1 - rng.uniform(0.1, 0.65) * soft)[..., None], np.float32)


def _cover_edge(rng: np.random.Generator, scene: Image, corners: Points) -> None:
    """Let a finger, a pen or a thing cover a part of an edge, and what is outside of it."""
    height, width = scene.shape[:2]
    side = int(rng.integers(4))
    start, end = corners[side], corners[(side + 1) % 4]
    place = start + rng.uniform(0.12, 0.88) * (end - start)
    outwards = place - corners.mean(axis=0)
    outwards = outwards / (np.linalg.norm(outwards) + 1e-6)
    inner = (place - outwards * rng.uniform(0.01, 0.09)) * (width, height)
    outer = (place + outwards * rng.uniform(0.2, 0.8) + rng.normal(0, 0.15, 2)) * (width, height)
    skin = rng.random() < 0.65
    colour = _skin(rng) if skin else rng.uniform(0, 255, 3)
    thick = max(2, int(rng.uniform(0.03, 0.1) * min(height, width)))
    for number in range(int(rng.integers(1, 4)) if skin else 1):
        aside = np.array([-outwards[1], outwards[0]]) * thick * number * 1.1
        points = [np.round((point + aside) * 16).astype(int).tolist() for point in (inner, outer)]
        for shrink, tone in ((1.0, 0.8), (0.75, 1.0)):
            shade = tuple(float(part) for part in np.clip(colour * tone, 0, 255))
            cv2.line(scene, points[0], points[1], shade, max(1, int(thick * shrink)), cv2.LINE_AA, 4)


def _skin(rng: np.random.Generator) -> NDArray[np.float64]:
    light = rng.uniform(0.25, 1)
    return np.array([232, 190, 165]) * light + rng.normal(0, 8, 3)


def cover_corner(rng: np.random.Generator, scene: Image, corners: Points) -> None:
    """Put a patch over a corner, or over two: the model has to see where the edges would meet."""
    height, width = scene.shape[:2]
    for corner in rng.choice(4, 2 if rng.random() < 0.2 else 1, replace=False):
        centre = (corners[corner] + rng.normal(0, 0.015, 2)) * (width, height)
        reach = rng.uniform(0.02, 0.09, 2) * min(height, width)
        if rng.random() < 0.3:
            # Not below 0, from where slices would count from the other side.
            ends = np.maximum(np.round([centre - reach, centre + reach]), 0).astype(int)
            hole = scene[ends[0, 1] : ends[1, 1], ends[0, 0] : ends[1, 0]]
            grain = rng.normal(0, rng.uniform(0, 40), hole.shape)
            hole[:] = np.clip(rng.uniform(0, 255, 3) + grain, 0, 255).astype(np.uint8)
        else:
            colour = _skin(rng) if rng.random() < 0.5 else rng.uniform(0, 255, 3)
            shade = tuple(float(part) for part in np.clip(colour, 0, 255))
            at, axes = (np.round(each * 16).astype(int).tolist() for each in (centre, reach))
            cv2.ellipse(scene, at, axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA, 4)


def _focus(rng: np.random.Generator, scene: Image, strength: float) -> Image:
    """Blur what is far away or near: the lens of a phone is focused on one distance."""
    if rng.random() > 0.3 * strength:
        return scene
    height, width = scene.shape[:2]
    blurred = cv2.GaussianBlur(
        scene, (0, 0), max(0.3, rng.uniform(0.003, 0.02) * strength * max(height, width))
    )
    turn = rng.choice([np.pi / 2, rng.uniform(0, 6.28)])
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    away = np.abs(x * np.cos(turn) + y * np.sin(turn) - rng.uniform(-0.7, 0.7))
    share = np.clip((away - rng.uniform(0, 0.5)) * rng.uniform(0.8, 3), 0, 1)[..., None].astype(np.float32)
    return np.asarray(scene * (1 - share) + blurred * share, np.uint8)
