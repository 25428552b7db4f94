"""The loss of DocAligner: corners, outline, points, and whether there is a document, in one sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from otter_ray.errors import did_you_mean
from otter_ray.projects.docaligner.corners import corners_of, has_document
from otter_ray.projects.docaligner.modeling.heads import Prediction
from otter_ray.projects.docaligner.modeling.targets import corner_maps, edge_maps, inside

AWING, MSE, BCE = "AWing", "MSE", "BCE"


def adaptive_wing(
    values: Tensor,
    target: Tensor,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
) -> Tensor:
    """Return the Adaptive Wing loss of each pixel (arXiv 1904.07399, equation 4)."""
    away, power = (target - values).abs(), alpha - target
    ratio = theta / epsilon
    slope = omega / (1 + ratio**power) * power * ratio ** (power - 1) / epsilon
    offset = theta * slope - omega * torch.log1p(ratio**power)
    near = omega * torch.log1p((away / epsilon) ** power)
    return torch.where(away < theta, near, slope * away - offset)


class CornerLoss(nn.Module):
    """The weighted sum of the losses of all that a head predicts.

    Corners outside the frame count neither for nor against. A photograph without a document has empty
    heatmaps as its target, and no points.

    Args:
        corner: Of the heatmaps: `AWing`, `MSE` or `BCE`.
        sigma: Of the corners' Gaussians, in pixels of the heatmaps.
        foreground: How many times more than the background a pixel near a corner or the outline counts.
        edge_weight: Of the outline, in the same loss as the corners.
        object_weight: Of whether there is a document, by binary cross entropy.
        point_weight: Of points, by the smooth L1 loss.

    Raises:
        ValueError: A number is out of range, or there is no such loss.
    """

    def __init__(
        self,
        corner: str = AWING,
        sigma: float = 1.5,
        foreground: float = 10.0,
        edge_weight: float = 0.1,
        object_weight: float = 0.1,
        point_weight: float = 1000.0,
    ) -> None:
        super().__init__()
        if corner not in (choices := (AWING, MSE, BCE)):
            known = f"must be one of {', '.join(choices)}.{did_you_mean(str(corner), choices)}"
            raise ValueError(f"corner is {corner!r} but {known}")
        if not sigma > 0:
            raise ValueError(f"sigma is {sigma} but must be above 0 (pixels of the heatmaps)")
        weights = {"edge_weight": edge_weight, "object_weight": object_weight, "point_weight": point_weight}
        for name, value in {"foreground": foreground, **weights}.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value} but must be at least 0")
        self.corner, self.sigma, self.foreground, self.weights = corner, sigma, foreground, weights

    def forward(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the parts that apply, by name, each with its weight, of labels `[N, LABEL]`."""
        corners, shown = corners_of(labels), has_document(labels)
        parts = dict[str, Tensor]()
        if prediction.corners is not None:
            size = (prediction.corners.shape[2], prediction.corners.shape[3])
            target = corner_maps(corners, size, self.sigma) * shown[:, None, None, None]
            counts = (inside(corners) | ~shown[:, None])[..., None, None]
            parts["corner_loss"] = self._maps(prediction.corners, target, counts)
        if prediction.edge is not None:
            size = (prediction.edge.shape[2], prediction.edge.shape[3])
            target = edge_maps(corners, size, self.sigma) * shown[:, None, None, None]
            loss = self._maps(prediction.edge, target, torch.ones_like(target, dtype=torch.bool))
            parts["edge_loss"] = self.weights["edge_weight"] * loss
        if prediction.points is not None:
            each = functional.smooth_l1_loss(prediction.points, corners, reduction="none").mean((1, 2))
            mean = (each * shown).sum() / shown.sum().clamp_min(1)
            parts["point_loss"] = self.weights["point_weight"] * mean
        if prediction.has_object is not None:
            loss = functional.binary_cross_entropy_with_logits(
                prediction.has_object[:, 0], shown.to(prediction.has_object.dtype)
            )
            parts["object_loss"] = self.weights["object_weight"] * loss
        return parts

    def _maps(self, logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Return the loss of heatmaps, the mean over pixels that count."""
        if self.corner == BCE:
            loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        elif self.corner == MSE:
            loss = (logits.sigmoid() - target) ** 2
        else:
            loss = adaptive_wing(logits.sigmoid(), target)
        weight = (1 + self.foreground * (target > 0.2)) * counts
        return (loss * weight).sum() / weight.sum().clamp_min(1)
