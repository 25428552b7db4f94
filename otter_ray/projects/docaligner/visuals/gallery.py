"""Photographs with their corners drawn, for reports and previews."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.projects.docaligner.corners import corners_of, has_document, to_pixels
from otter_ray.projects.docaligner.metrics.scores import GOOD, Scores
from otter_ray.vision.contact_sheets import Image, grid

SHOWN, EACH_ROW, IN_BATCH = 24, 6, 32
SIDE = 192  # of a picture, at least, in px
JPEG_QUALITY = 85
TRUE, FOUND = (60, 200, 80), (230, 60, 50)


def outlined(image: Tensor, *outlines: tuple[Tensor, tuple[int, int, int]]) -> Image:
    """Return an image float `[3, h, w]` in [0, 1], enlarged, with outlines `[4, 2]` drawn in colours.

    The first corner has a larger dot. Corners that are NaN are left out.
    """
    pixels: Image = (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    scale = max(1, -(-SIDE // max(pixels.shape[:2])))
    size = (pixels.shape[0] * scale, pixels.shape[1] * scale)
    drawn = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    for corners, colour in outlines:
        places = to_pixels(corners.double().cpu(), size).numpy()
        seen = [(np.round(point * 8)).astype(int).tolist() for point in places if np.isfinite(point).all()]
        if len(seen) == len(places):
            cv2.polylines(drawn, [np.array(seen)], True, colour, 1, cv2.LINE_AA, shift=3)
        for number, point in enumerate(seen):
            cv2.circle(drawn, point, (5 if number == 0 else 3) * 8, colour, -1, cv2.LINE_AA, shift=3)
    return drawn


def batch_picture(images: Tensor, labels: Tensor) -> Image:
    """Draw the first images of a batch with their true corners."""
    shown, corners = has_document(labels), corners_of(labels)
    return grid(
        [
            outlined(image, *([(corners[row], TRUE)] if shown[row] else []))
            for row, image in enumerate(images[:IN_BATCH])
        ]
    )


def illustrate(found: Tensor, labels: Tensor, dataset: Dataset[Any], scored: Scores) -> dict[str, Any]:
    """Return what `BaseMixin.illustrate` needs: the photographs in which corners are found worst.

    Args:
        found: `[N, 4, 2]` in fractions; NaN for a corner that was not found.
        labels: `[N, LABEL]`.
        dataset: Its items begin with an image, float `[3, h, w]` in [0, 1].
        scored: What `found` scores.
    """
    corners, shown = corners_of(labels), has_document(labels).cpu().numpy()
    numbers = np.flatnonzero(shown)
    order = np.argsort(scored.iou, kind="stable")
    spread = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int))]

    def cell(place: int) -> dict[str, str]:
        row, iou = int(numbers[place]), float(scored.iou[place])
        picture = outlined(dataset[row][0], (corners[row], TRUE), (found[row], FOUND))
        kind = "right" if iou > GOOD else "wrong"
        return {"image": _uri(picture), "name": f"photograph {row}", "text": f"{iou:.4f}", "kind": kind}

    def rows(places: NDArray[np.intp]) -> list[list[dict[str, str]]]:
        cells = [cell(int(place)) for place in places]
        return [cells[start : start + EACH_ROW] for start in range(0, len(cells), EACH_ROW)]

    about = f"Green: the true corners; red: those found. The figure is the Jaccard index, good above {GOOD}."
    return {
        "curves": [],
        "galleries": [
            {"title": "Worst photographs", "text": about, "rows": rows(order[:SHOWN])},
            {
                "title": "From the worst to the best",
                "text": f"Every so many photographs, in order. {about}",
                "rows": rows(spread),
            },
        ],
    }


def _uri(image: Image) -> str:
    done = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(done.tobytes()).decode()}"
