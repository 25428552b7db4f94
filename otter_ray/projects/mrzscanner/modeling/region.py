"""The detector, which predicts a mask of the zone. Corners would jump between similar lines of print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from otter_ray.config import Config
from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.metrics.regions import rectangle
from otter_ray.projects.mrzscanner.modeling.data_checks import require_places
from otter_ray.projects.mrzscanner.modeling.zone_model import ZoneModel
from otter_ray.projects.mrzscanner.visuals import model_card
from otter_ray.train.distributed import all_gather_rows
from otter_ray.train.model.module_mixin import Labels
from otter_ray.vision.jaccard import jaccard

_GOOD = 0.8  # an overlap that loses no character


class RegionHead(nn.Module):
    """Sums all feature maps up, coarse to fine, and tells on the finest where the zone is.

    Args:
        in_dims: Channels of each feature map, finest first.
        dim: Width of the layers.
    """

    def __init__(self, in_dims: Sequence[int], dim: int = 32) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(given, dim, 1) for given in in_dims)
        self.mask = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(),
            nn.Conv2d(dim, 1, 3, padding=1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits `[N, h, w]` of the size of the finest map."""
        total: Tensor | None = None
        for level, lateral in zip(reversed(features), reversed(self.lateral), strict=True):
            here = lateral(level)
            total = (
                here if total is None else here + F.interpolate(total, size=here.shape[2:], mode="nearest")
            )
        logits: Tensor = self.mask(total)
        return logits[:, 0]


class RegionLoss(nn.Module):
    """Log-Cosh Dice, cross entropy and Smooth L1 of a mask.

    Dice lies in [0, 1], where log(cosh) is at most 0.43 and flat at 0: alone it hardly trains.

    Args:
        dice_weight: Weight of Log-Cosh Dice.
        bce_weight: Weight of the binary cross entropy.
        l1_weight: Weight of Smooth L1.
    """

    def __init__(self, dice_weight: float = 2.0, bce_weight: float = 1.0, l1_weight: float = 1.0) -> None:
        super().__init__()
        if min(dice_weight, bce_weight, l1_weight) < 0 or not dice_weight + bce_weight + l1_weight:
            raise ValueError("weights must be at least 0, and one of them above it")
        self.weights = {"dice": dice_weight, "bce": bce_weight, "l1": l1_weight}

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses, by name, of logits and target masks `[N, h, w]`."""
        mask = logits.sigmoid()
        losses = {
            "dice": (1 - soft_dice(mask, target)).cosh().log().mean(),
            "bce": F.binary_cross_entropy_with_logits(logits, target),
            "l1": F.smooth_l1_loss(mask, target, beta=0.5),
        }
        return {name: self.weights[name] * loss for name, loss in losses.items()}


def soft_dice(mask: Tensor, target: Tensor) -> Tensor:
    """Return twice the common part of masks `[N, h, w]` by their sum, `[N]`; 1 if both are empty."""
    common, total = (mask * target).sum(dim=(1, 2)), mask.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return (2 * common + 1) / (total + 1)


def zone_mask(zone: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw zones `[N, 4, 2]`, clockwise corners in fractions, as masks `[N, h, w]`; NaN is an empty mask.

    A pixel on an edge is covered in part: by its distance to the edge, in pixels.
    """
    height, width = size
    corners = zone * zone.new_tensor([width, height])
    x = torch.arange(width, device=zone.device, dtype=zone.dtype) + 0.5
    y = torch.arange(height, device=zone.device, dtype=zone.dtype) + 0.5
    inside = zone.new_full((len(zone), height, width), torch.inf)
    for start, end in zip(corners.unbind(1), corners.roll(-1, 1).unbind(1), strict=True):
        along = F.normalize(end - start, dim=1)
        across = along[:, 0, None] * (y - start[:, 1, None]), along[:, 1, None] * (x - start[:, 0, None])
        inside = torch.minimum(inside, across[0][:, :, None] - across[1][:, None, :])
    return (inside + 0.5).clamp(0, 1).nan_to_num(0)


class RegionModel(ZoneModel):
    """Backbone, neck if there is one, head and loss that find the zone.

    Raises:
        ConfigError: A class refuses its options, or a data set does not know where zones are.
    """

    SCORES = ("valid_iou", "valid_recall@80", "valid_dice")
    LOWER_IS_BETTER = ()
    METRICS = ("loss", "loss_step", "loss_epoch", "lr", "dice_loss", "bce_loss", "l1_loss", *SCORES)
    STEADIER = MappingProxyType({"valid_iou": "valid_dice", "valid_recall@80": "valid_dice"})
    INTENDED_USE = model_card.REGION_USE

    def __init__(self, config: Config) -> None:
        require_places(config)
        super().__init__(config)

    def training_step(self, batch: tuple[Tensor, Mapping[str, Tensor]], batch_idx: int) -> Tensor:
        """Return the loss of images `[N, 3, H, W]` and their labels."""
        images, labels = batch
        logits = self(images)
        losses = self.loss(logits, zone_mask(labels["zone"], (logits.shape[1], logits.shape[2])))
        return self.logged_sum(losses, len(images))

    def validation_step(self, batch: tuple[Tensor, Mapping[str, Tensor]], batch_idx: int) -> None:
        """Keep the rectangles of a batch."""
        images, labels = batch
        found = self.reduce_outputs(self(images).float().sigmoid(), labels)
        self._validation.append((found.to(self.device), labels["zone"]))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole validation set, of which each process saw a part."""
        found, zone = (all_gather_rows(torch.cat(seen)) for seen in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(found, {"zone": zone}), prog_bar=True)

    def pretend_loss(self, *inputs: Tensor) -> Tensor:
        """Return the loss if the zone is everywhere."""
        logits = self(*inputs)
        return torch.stack([*self.loss(logits, torch.ones_like(logits)).values()]).sum()

    def reduce_outputs(self, outputs: Tensor, labels: Labels) -> Tensor:
        """Return the corners found on masks `[N, h, w]`, and how well the masks fit: `[N, 9]`."""
        masks = outputs.float()
        height, width = self.config.common.image_size
        corners = np.stack([rectangle(mask, (height, width)) for mask in masks.cpu().numpy()])
        target = zone_mask(labels["zone"].to(masks.device), (masks.shape[1], masks.shape[2]))
        dice = soft_dice(masks, target).cpu()
        return torch.cat([torch.from_numpy(corners).float().flatten(1), dice[:, None]], dim=1)

    def score(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics of what `reduce_outputs` found, over the images that have a zone."""
        return {name: float(values.mean()) for name, values in self.values(outputs, labels).items()}

    def score_step(self, labels: Mapping[str, Tensor], metric: str) -> float:
        """Return what one image changes of a share, and a pixel of one mask of the overlap."""
        images = int(labels["zone"].isfinite().all(dim=2).all(dim=1).sum())
        return 1 / images if metric == "valid_recall@80" else 0.1 / images

    def example(self, file: str) -> str:
        """Return a program that finds the zone on an image."""
        return model_card.region_example(self.config, file)

    def values(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """Return metric -> its value for each image that has a zone.

        Raises:
            DataError: None has one.
        """
        zones = labels["zone"].cpu().double().numpy()
        there = np.isfinite(zones).all(axis=(1, 2))
        if not there.any():
            raise DataError(
                "dataset.valid_options: no image has a zone, so there is nothing to score. Add images that "
                "have one."
            )
        rows = outputs.cpu().double().numpy()[there]
        pairs = zip(rows[:, :8].reshape(-1, 4, 2), zones[there], strict=True)
        overlaps = np.array([jaccard(found, true) for found, true in pairs])
        return {"valid_iou": overlaps, "valid_recall@80": overlaps > _GOOD, "valid_dice": rows[:, 8]}
