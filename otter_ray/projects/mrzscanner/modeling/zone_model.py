"""The base of the models of zones: it builds their parts, logs their losses and gives intervals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from otter_ray.config import Config
from otter_ray.projects.mrzscanner.metrics.intervals import interval
from otter_ray.projects.mrzscanner.modeling.parts import build_neck, head_options
from otter_ray.projects.mrzscanner.text.keys import KeyTable
from otter_ray.train.builders import build_part
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.model.replicates import Replicates, mean_replicates
from otter_ray.vision.memory_format import fast_memory_format


class ZoneModel(BaseMixin, L.LightningModule):
    """Backbone, neck if there is one, head and loss.

    Args:
        config: The config.
        keys: The keys of the text, for a head that reads.

    Raises:
        ConfigError: A class refuses its options.
    """

    EXACT_LABELS = True

    def __init__(self, config: Config, keys: KeyTable | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_part(config, "backbone", config.model.backbone.options)
        self.neck = build_neck(config, self.backbone)
        levels = nn.Sequential(self.backbone, self.neck)
        self.head = build_part(config, "head", head_options(config, levels, keys))
        self.loss = build_part(config, "loss", config.model.loss.arguments)
        self.memory_format = fast_memory_format(self)
        self.to(memory_format=self.memory_format)
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, img: Tensor) -> Any:
        """Return what the head tells of images `[N, 3, H, W]` in [0, 1]."""
        return self.head(self.neck(self.backbone(img.contiguous(memory_format=self.memory_format))))

    def logged_sum(self, losses: Mapping[str, Tensor], images: int) -> Tensor:
        """Log the losses of a training batch, and return their sum."""
        total = torch.stack([*losses.values()]).sum()
        named = {f"{name}_loss": loss for name, loss in losses.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=images)
        self.log("loss", total, prog_bar=True, on_step=True, on_epoch=True, batch_size=images)
        self.log("lr", self.get_lr(), on_step=True, on_epoch=False)
        return total

    @abstractmethod
    def values(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """Return metric -> its value for each image that it is measured on."""

    def score_interval(
        self, outputs: Tensor, labels: Mapping[str, Tensor], metric: str
    ) -> tuple[float, float] | None:
        """Return Wilson's 95 % interval of a share, and a bootstrap over images of another mean."""
        values = self.values(outputs, labels).get(metric)
        return None if values is None else interval(values)

    def score_replicates(
        self, outputs: Tensor, labels: Mapping[str, Tensor], metric: str
    ) -> Replicates | None:
        """Return a metric in resamples of the images that it is measured on."""
        values = self.values(outputs, labels).get(metric)
        return None if values is None else mean_replicates(values.astype(np.float64))
