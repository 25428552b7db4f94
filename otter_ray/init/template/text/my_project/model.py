"""The model: what the config's `model:` and `onnx:` name."""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from otter_ray import BaseMixin
from otter_ray.config import Config
from otter_ray.train import Replicates, all_gather_rows, find_class, mean_replicates
from torch import Tensor, nn
from torch.nn import functional

from my_project.data import KEYS, PLACES

GRID = (3, 2 * PLACES)  # rows and columns of the features that are read


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
        """Return features `[N, channels, h, w]` of images `[N, 3, H, W]`."""
        features: Tensor = self.stages(img)
        return features


class PlacesHead(nn.Module):
    """Logits of the key at each place of the text; `in_dim` comes from the model."""

    def __init__(self, in_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_dim * GRID[0] * GRID[1], PLACES * len(KEYS))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[N, PLACES, keys]`."""
        grid = functional.interpolate(features, GRID, mode="bilinear")
        logits: Tensor = self.linear(self.dropout(grid.flatten(1)))
        return logits.unflatten(1, (PLACES, len(KEYS)))


class CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy of the keys at all places, also where the text has ended."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)


class TextModel(BaseMixin, L.LightningModule):
    """A reader. BaseMixin makes the optimizer and the schedule that the config names."""

    # What it logs: callbacks and schedulers can use it.
    METRICS = ("loss", "valid_accuracy", "valid_characters")
    SCORES = ("valid_accuracy", "valid_characters")  # what `score` returns: a search can optimize it
    LOWER_IS_BETTER = ()
    # Whole texts are seldom right in early epochs: schedulers that stop trials compare characters.
    STEADIER = MappingProxyType({"valid_accuracy": "valid_characters"})
    INTENDED_USE = (
        f"Reads a number of at most {PLACES} digits. Input: RGB images in [0, 1]. Output: for each place of "
        "the text, the probability of no character and of the digits 0 to 9."
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts = config.model
        self.loss = find_class(parts.loss.name, "loss", config.project)(**parts.loss.arguments)
        self.backbone = find_class(parts.backbone.name, "backbone", config.project)(**parts.backbone.options)
        head = find_class(parts.head.name, "head", config.project)
        self.head = head(self.backbone.channels, **parts.head.options)
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, img: Tensor) -> Tensor:
        """Return logits `[N, PLACES, keys]` of images `[N, 3, H, W]` in [0, 1]."""
        logits: Tensor = self.head(self.backbone(img))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch `(images, keys)`."""
        images, keys = batch
        loss: Tensor = self.loss(self(images).flatten(0, 1), keys.flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metrics need from a batch."""
        images, keys = batch
        self._validation.append((self(images).float(), keys))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole validation set, of which each process saw a part."""
        outputs, keys = (all_gather_rows(torch.cat(parts)) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(outputs, keys), prog_bar=True)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the metrics, from the exported model's outputs: the export's gate measures them again."""
        return {name: float(self._right(outputs, labels, name).mean()) for name in self.SCORES}

    def score_step(self, labels: Tensor, metric: str) -> float:
        """Return how far one image moves a metric: the exported file may differ by that."""
        return 1 / len(labels)

    def score_interval(self, outputs: Tensor, labels: Tensor, metric: str) -> tuple[float, float]:
        """Return a metric's 95 % interval, from resamples of the images."""
        return self.score_replicates(outputs, labels, metric).interval

    def score_replicates(self, outputs: Tensor, labels: Tensor, metric: str) -> Replicates:
        """Return a metric in resamples of the images, by which two models are compared."""
        return mean_replicates(self._right(outputs, labels, metric))

    def _right(self, outputs: Tensor, labels: Tensor, metric: str) -> NDArray[np.float64]:
        """Return each image's share of places that are right; whether all are, for `valid_accuracy`."""
        right = outputs.argmax(dim=2) == labels
        shares = right.all(dim=1) if metric == "valid_accuracy" else right.double().mean(dim=1)
        return shares.double().cpu().numpy()

    def example(self, file: str) -> str:
        """Return at most ten lines for the model's card, which prepare an image as training did."""
        height, width = self.config.common.image_size
        return f"""\
import sys, cv2, numpy as np, onnxruntime
image = cv2.resize(cv2.imread(sys.argv[1]), ({width}, {height}), interpolation=cv2.INTER_AREA)[..., ::-1]
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
inputs = {{"img": image.transpose(2, 0, 1)[None].astype(np.float32) / 255}}
(text,) = session.run(["text"], inputs)[0]
print("".join({[*KEYS]}[key] for key in text.argmax(axis=1)))"""


class Text(nn.Module):
    """What is exported: logits become probabilities, and the loss is left out."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, img: Tensor) -> Tensor:
        """Return probabilities `[N, PLACES, keys]` of images `[N, 3, H, W]` in [0, 1]."""
        probabilities: Tensor = self.head(self.backbone(img)).softmax(dim=2)
        return probabilities
