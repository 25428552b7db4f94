"""Pictures of a validation and of a training batch, all uint8 [h, w, 3] (RGB).

A plot is drawn on a figure of its own, never through pyplot, whose state belongs to the whole process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otter_ray.projects.docclassifier.metrics.pair_roc import TABLE_FPRS, PairROC
from otter_ray.vision.contact_sheets import Image, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPERATING_FPR = 1e-4
LOWEST_FPR = 1e-6
MAX_DRAWN = 5000
MAX_NAMED = 24
MAX_CELLS = 64
MAX_NAME = 22

# Okabe and Ito's colours, which colour-blind people can distinguish, without yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One more than colours: 56 documents before a combination is repeated.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLES = len(_COLOURS) * len(_MARKERS)
_CELL_WIDTH = 96
_STRIP = 16


def roc_picture(roc: PairROC) -> Image:
    """Draw the ROC curve over a logarithmic FPR, with the point at FPR 1e-4 and the AUC; 900 x 700 px.

    `roc` must hold positive and negative pairs.
    """
    figure, axes = _plot(_pairs(roc), "FPR", "TPR")
    axes.set(xscale="log", xlim=(LOWEST_FPR, 1), ylim=(-0.02, 1.02))
    ticks = (LOWEST_FPR, *TABLE_FPRS)
    axes.set_xticks(ticks, [f"{fpr:.0e}" for fpr in ticks])
    axes.minorticks_off()
    fprs = np.geomspace(LOWEST_FPR, 1, 1201)
    axes.plot(fprs, roc.tprs_at(fprs), color=_COLOURS[0], lw=2, label=f"ROC, AUC {roc.auc():.4f}")
    axes.plot(fprs, fprs, color="grey", ls=":", label="chance, AUC 0.5")
    tpr, threshold = roc.tpr_at(OPERATING_FPR)
    label = f"TPR {tpr:.4f} at FPR {OPERATING_FPR:.0e}, threshold {threshold:.4f}"
    axes.plot(OPERATING_FPR, tpr, "o", color=_COLOURS[1], ms=9, label=label, clip_on=False, zorder=3)
    if roc.num_negatives < 1 / LOWEST_FPR:
        text = "less than one negative pair"
        axes.axvspan(LOWEST_FPR, 1 / roc.num_negatives, color="grey", alpha=0.15, label=text)
    axes.legend()
    return _pixels(figure)


def tpr_fpr_table(roc: PairROC) -> str:
    """Write TPR and threshold at FPR 1e-5 ... 1, as aligned lines, and the pairs that they rest on."""
    rows = [f"{fpr:>7.0e} {tpr:>8.4f} {threshold:>11.6f}" for fpr, tpr, threshold in roc.table()]
    return "\n".join([f"{'FPR':>7} {'TPR':>8} {'threshold':>11}", *rows, "", _pairs(roc), ""])


def pca_picture(embeddings: Tensor, labels: Tensor, names: Sequence[str] | None = None) -> Image:
    """Draw the unit embeddings along their first two principal components; 900 x 700 px.

    Args:
        embeddings: Finite float `[N, D]`; at most 5,000 are drawn, evenly chosen.
        labels: Int `[N]`, each with a colour and a marker.
        names: Names of the labels for the legend, which is left out if it would be too long.
    """
    chosen = torch.linspace(0, len(embeddings) - 1, min(len(embeddings), MAX_DRAWN)).round().long()
    points, shares = _principal(embeddings.detach().float().cpu()[chosen])
    documents, numbers = np.unique(labels.cpu().numpy()[chosen.numpy()], return_inverse=True)
    title = f"{len(points):,} embeddings of {len(documents):,} documents: {sum(shares):.1%} of the variance"
    figure, axes = _plot(title, f"first component, {shares[0]:.1%}", f"second component, {shares[1]:.1%}")
    named = len(documents) <= MAX_NAMED
    axes.set_aspect("equal", adjustable="datalim")
    for style in range(min(_STYLES, len(documents))):
        colour, marker = _COLOURS[style % len(_COLOURS)], _MARKERS[style % len(_MARKERS)]
        x, y = points[numbers % _STYLES == style].T
        text = _legend(int(documents[style]), names)
        axes.plot(x, y, marker, color=colour, ms=7 if named else 4, alpha=0.7, mew=0, label=text)
    if named:
        figure.legend(loc="outside right upper", fontsize=8, title="document", alignment="left")
    return _pixels(figure)


def batch_picture(images: Tensor, labels: Tensor) -> Image:
    """Draw a contact sheet of at most 64 images, float `[B, 3, H, W]` in [0, 1], with labels, int `[B]`."""
    images, labels = images[:MAX_CELLS].detach().float(), labels[:MAX_CELLS]
    cells = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return grid([_labelled(cell, label) for cell, label in zip(cells, labels.tolist(), strict=True)])


def _pairs(roc: PairROC) -> str:
    return f"{roc.num_positives:,} positive and {roc.num_negatives:,} negative pairs"


def _principal(embeddings: Tensor) -> tuple[NDArray[np.float32], list[float]]:
    """Return unit embeddings `[N, 2]` along their main directions, and the shares of the variance there."""
    features = torch.nn.functional.normalize(embeddings)
    features = features - features.mean(0)
    # Not pca_lowrank: it draws random numbers, and a run with previews must train like one without.
    left, sizes, _ = torch.linalg.svd(features, full_matrices=False)
    shares = sizes.square() / sizes.square().sum().clamp(min=1e-12)
    return (left[:, :2] * sizes[:2]).numpy(), shares[:2].tolist()


def _legend(label: int, names: Sequence[str] | None) -> str:
    """Return the label and the end of its name, if matplotlib's font has the letters."""
    name = names[label] if names else ""
    if not name or not name.isascii():
        return str(label)
    short = name if len(name) <= MAX_NAME else f"...{name[3 - MAX_NAME :]}"
    # Between two dollars matplotlib reads a formula.
    return f"{label} {short}".replace("$", r"\$")


def _labelled(image: Image, label: int) -> Image:
    """Put the image, enlarged if it is tiny, over a strip with its label."""
    factor = max(1, _CELL_WIDTH // image.shape[1])
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    strip = np.full((_STRIP, large.shape[1], 3), 32, np.uint8)
    place, white = (2, _STRIP - 4), (255, 255, 255)
    cv2.putText(strip, str(label), place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, white, 1, cv2.LINE_AA)
    return np.concatenate([large, strip])


def _plot(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _pixels(figure: Figure) -> Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
