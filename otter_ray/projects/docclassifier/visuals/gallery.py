"""What a report shows of a model: the ROC curve, images with their nearest neighbours, the hardest pairs."""

from __future__ import annotations

import base64
import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.projects.docclassifier.metrics.pair_roc import GRID, PairROC, block_rows, unit
from otter_ray.projects.docclassifier.metrics.pairs import hardest
from otter_ray.vision.contact_sheets import Image

FPR = 1e-4
LOWEST_FPR, POINTS = 1e-6, 241
QUERIES, NEIGHBOURS, PAIRS = 10, 6, 12
# Negative pairs that are searched: the hardest ones are often of the same two documents.
SEARCHED_PAIRS = 2**14
SIDE = 128  # of a picture, at most, in px
JPEG_QUALITY = 85


def illustrate(
    embeddings: Tensor, labels: Tensor, dataset: Dataset[Any], roc: PairROC | None
) -> dict[str, Any]:
    """Return what `BaseMixin.illustrate` needs; nothing without pairs of both kinds.

    Args:
        embeddings: Float `[N, D]`, in the data set's order.
        labels: Int `[N]`, in the same order.
        dataset: Its items begin with an image, float `[3, h, w]` in [0, 1].
        roc: Of all their pairs.
    """
    if roc is None or not roc.num_positives or not roc.num_negatives:
        return {}
    features = unit(embeddings)
    classes = np.unique(labels.cpu().numpy(), return_inverse=True)[1].astype(np.int64)
    shots = _Shots(dataset, labels)
    return {
        "curves": [_curve(roc)],
        "galleries": [_neighbours(features, classes, shots), _hardest(features, classes, roc, shots)],
    }


class _Shots:
    """The images of a data set as captioned pictures."""

    def __init__(self, dataset: Dataset[Any], labels: Tensor) -> None:
        self.dataset, self.labels = dataset, labels.tolist()
        self.names = getattr(dataset, "class_names", None)

    def of(self, index: int, text: str = "", kind: str = "") -> dict[str, str]:
        label = self.labels[index]
        name = str(self.names[label]) if self.names else f"document {label}"
        return {"image": self._uri(index), "name": name, "text": text, "kind": kind}

    def _uri(self, index: int) -> str:
        pixels = self.dataset[index][0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        image: Image = np.ascontiguousarray(pixels)
        height, width = image.shape[:2]
        if (scale := SIDE / max(height, width)) < 1:
            size = (round(width * scale), round(height * scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        done = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        return f"data:image/jpeg;base64,{base64.b64encode(done.tobytes()).decode()}"


def _curve(roc: PairROC) -> dict[str, Any]:
    fprs = np.geomspace(LOWEST_FPR, 1, POINTS)
    tpr, threshold = roc.tpr_at(FPR)
    return {
        "title": "ROC",
        "x_title": "false positive rate",
        "y_title": "true positive rate",
        "log_x": True,
        "x": [float(f"{fpr:.4g}") for fpr in fprs],
        "y": [round(float(rate), 5) for rate in roc.tprs_at(fprs)],
        "mark": {"x": FPR, "y": tpr, "text": f"threshold {threshold:.4f}"},
    }


def _neighbours(features: Tensor, classes: NDArray[np.int64], shots: _Shots) -> dict[str, Any]:
    """Show an image of each of some documents, with the images that are most similar to it."""
    margins = _margins(features, classes)
    # By class, the hardest first; a class with one image has nothing to compare.
    order = np.lexsort((margins, classes))
    _, begins, counts = np.unique(classes[order], return_index=True, return_counts=True)
    hardest_of = order[begins[counts > 1]]
    queries = sorted(hardest_of, key=lambda index: margins[index])[:QUERIES]
    rows = []
    for query in map(int, queries):
        similarity = features @ features[query]
        similarity[query] = -2
        scores, found = similarity.topk(min(NEIGHBOURS, len(classes) - 1))
        cells = [shots.of(query)]
        for score, index in zip(scores.tolist(), found.tolist(), strict=True):
            kind = "right" if classes[index] == classes[query] else "wrong"
            cells.append(shots.of(index, f"{(score + 1) / 2:.4f}", kind))
        rows.append(cells)
    text = (
        "On the left is an image, then the most similar ones among all others, with their scores. Green: of "
        "the same document; red: of another document. The documents shown are those that are hardest to tell "
        "from others, each with its hardest image."
    )
    return {"title": "Nearest neighbours", "text": text, "rows": rows}


def _margins(features: Tensor, classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `[N]`: how much nearer the nearest image of the same document is than any other document's."""
    labels, found = torch.from_numpy(classes).to(features.device), []
    rows = block_rows(len(features))
    for start in range(0, len(features), rows):
        similarity = features[start : start + rows] @ features.T
        same = labels[start : start + rows, None] == labels[None]
        false = similarity.masked_fill(same, -2).amax(1)
        same[torch.arange(len(same)), torch.arange(len(same)) + start] = False
        found.append(similarity.masked_fill(~same, -2).amax(1) - false)
    return np.asarray(torch.cat(found).cpu().numpy())


def _hardest(features: Tensor, classes: NDArray[np.int64], roc: PairROC, shots: _Shots) -> dict[str, Any]:
    """Show the hardest negative pair of every two documents, the hardest first."""
    found = hardest(features, classes, roc, SEARCHED_PAIRS)
    chosen: dict[frozenset[int], list[dict[str, str]]] = {}
    threshold = roc.tpr_at(FPR)[1]
    for first, second, bins in zip(found.first, found.second, found.bins, strict=True):
        documents = frozenset((int(classes[first]), int(classes[second])))
        if documents in chosen:
            continue
        score = float(bins) / GRID
        kind = "wrong" if score >= threshold else ""
        chosen[documents] = [
            shots.of(int(first), f"{score:.4f}", kind),
            shots.of(int(second), f"{score:.4f}", kind),
        ]
        if len(chosen) == PAIRS:
            break
    rule = f"at a false positive rate of {FPR:g}"
    red = (
        f"Red: above {threshold:.4f}, the threshold {rule}."
        if math.isfinite(threshold)
        else f"No threshold keeps pairs like these out {rule}."
    )
    text = f"The most similar images of different documents, one pair for every two documents. {red}"
    return {"title": "Hardest false pairs", "text": text, "rows": list(chosen.values())}
