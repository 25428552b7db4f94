"""Draw the zones that a reader read worst, for the report."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.projects.mrzscanner.metrics.texts import Comparison
from otter_ray.projects.mrzscanner.text.icao import Zone

_SHOWN = 24
_WIDTH = 480  # of a picture, at most, in px
_MISSING = "·"


def picture_uri(image: Tensor) -> str:
    """Return an image `[3, h, w]` in [0, 1] as a `data:` URI."""
    pixels = np.ascontiguousarray(image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy())
    if pixels.shape[1] > _WIDTH:
        size = (_WIDTH, round(pixels.shape[0] * _WIDTH / pixels.shape[1]))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(done.tobytes()).decode()}"


def worst_zones(found: Comparison, dataset: Dataset[Any]) -> dict[str, Any]:
    """Return the zones that were read worst, with what is wrong, for a report."""
    worst = np.argsort(found.similarity, kind="stable")[:_SHOWN]
    rows = []
    for index in map(int, worst):
        caption = mistakes(found.truth[index], found.read[index])
        rows.append([
            {
                "image": picture_uri(dataset[index][0]),
                "name": " / ".join(found.truth[index]),
                "text": caption or "right",
                "kind": "wrong" if caption else "right",
            }
        ])  # fmt: skip
    text = "The zones that were read worst, each with its true text and what was read in its place."
    return {"galleries": [{"title": "Worst zones", "text": text, "rows": rows}]}


def mistakes(true: Zone, read: Zone) -> str:
    """Return what is wrong in a zone: `line 2, 5: O for 0`; empty if nothing is."""
    if [*map(len, true)] != [*map(len, read)]:
        return f"read {' / '.join(read) or _MISSING}"
    wrong = [
        f"line {row}, {place}: {said} for {is_}"
        for row, (line, answer) in enumerate(zip(true, read, strict=True), 1)
        for place, (is_, said) in enumerate(zip(line, answer, strict=True), 1)
        if is_ != said
    ]
    return "; ".join(wrong[:6]) + (f"; {len(wrong) - 6} more" if len(wrong) > 6 else "")
