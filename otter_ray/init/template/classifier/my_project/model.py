"""The model: what the config's `model:` and `onnx:` name."""

from __future__ import annotations

from itertools import pairwise

import lightning as L
import torch
from otter_ray import BaseMixin
from otter_ray.config import Config
from otter_ray.train import all_gather_rows, find_class
from scipy.stats import binomtest
from torch import Tensor, nn

from my_project.data import NAMES


class ConvBackbone(nn.Module):
    """`depth` convolutions that halve the image, the first with `width` channels, each next with twice."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [3, *(width * 2**stage for stage in range(depth))]
        self.channels = widths[-1]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.ReLU())
                for given, made in pairwise(widths)
            )
        )

    def forward(self, img: Tensor) -> Tensor:
        """Return features `[N, channels]` of images `[N, 3, H, W]`."""
        features: Tensor = self.stages(img)
        return features.amax(dim=(2, 3))


class LinearHead(nn.Module):
    """Logits of features; `in_dim` and `num_classes` come from the model."""

    def __init__(self, in_dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_dim, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[N, num_classes]` of features `[N, in_dim]`."""
        logits: Tensor = self.linear(self.dropout(features))
        return logits


class CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy. `num_classes` is -1 in the config, which means the data set's."""

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.num_classes = num_classes


class ShapeModel(BaseMixin, L.LightningModule):
    """A classifier. BaseMixin makes the optimizer and the schedule that the config names."""

    METRICS = (
        "loss",
        "valid_loss",
        "valid_accuracy",
    )  # what it logs: callbacks and schedulers can use it
    SCORES = ("valid_accuracy",)  # what `score` returns: a search can optimize it
    LOWER_IS_BETTER = ()
    INTENDED_USE = (
        f"Says which shape is drawn on an image: {', '.join(NAMES)}. Input: RGB images in [0, 1]. Output: "
        "the probability of each shape, in this order."
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts = config.model
        self.loss = find_class(parts.loss.name, "loss", config.project)(**parts.loss.arguments)
        self.backbone = find_class(parts.backbone.name, "backbone", config.project)(**parts.backbone.options)
        head = find_class(parts.head.name, "head", config.project)
        self.head = head(self.backbone.channels, self.loss.num_classes, **parts.head.options)
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, img: Tensor) -> Tensor:
        """Return logits `[N, classes]` of images `[N, 3, H, W]` in [0, 1]."""
        logits: Tensor = self.head(self.backbone(img))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch `(images, labels)`."""
        images, labels = batch
        loss: Tensor = self.loss(self(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metric needs from a batch."""
        images, labels = batch
        logits = self(images).float()
        self.log("valid_loss", self.loss(logits, labels), sync_dist=True)
        self._validation.append((logits.softmax(dim=1), labels))

    def on_validation_epoch_end(self) -> None:
        """Log the metric over the whole validation set, of which each process saw a part."""
        outputs, labels = (all_gather_rows(torch.cat(parts)) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(outputs, labels), prog_bar=True)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the metric, from the exported model's outputs: the export's gate measures it again."""
        return {"valid_accuracy": (outputs.argmax(dim=1) == labels).double().mean().item()}

    def score_step(self, labels: Tensor, metric: str) -> float:
        """Return how far one image moves the metric: the exported file may differ by that."""
        return 1 / len(labels)

    def score_interval(self, outputs: Tensor, labels: Tensor, metric: str) -> tuple[float, float]:
        """Return its 95 % interval (Wilson's)."""
        right = int((outputs.argmax(dim=1) == labels).sum())
        low, high = binomtest(right, len(labels)).proportion_ci(method="wilson")
        return float(low), float(high)

    def example(self, file: str) -> str:
        """Return at most ten lines for the model's card, which prepare an image as training did."""
        height, width = self.config.common.image_size
        return f"""\
import sys, cv2, numpy as np, onnxruntime
image = cv2.resize(cv2.imread(sys.argv[1]), ({width}, {height}), interpolation=cv2.INTER_AREA)[..., ::-1]
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
inputs = {{"img": image.transpose(2, 0, 1)[None].astype(np.float32) / 255}}
(probabilities,) = session.run(["probabilities"], inputs)[0]
print({NAMES}[probabilities.argmax()], probabilities.max())"""


class Probabilities(nn.Module):
    """What is exported: logits become probabilities, and the loss is left out."""

    def __init__(self, model: ShapeModel) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, img: Tensor) -> Tensor:
        """Return probabilities `[N, classes]` of images `[N, 3, H, W]` in [0, 1]."""
        probabilities: Tensor = self.head(self.backbone(img)).softmax(dim=1)
        return probabilities
