"""The model: what the config's `model:` and `onnx:` name."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from otter_ray import BaseMixin
from otter_ray.config import Config
from otter_ray.train import Replicates, all_gather_rows, find_class, mean_replicates
from torch import Tensor, nn


class ConvBackbone(nn.Module):
    """`depth` convolutions, the first two of which halve the image; the others have `width` channels."""

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.channels = width
        self.stages = nn.Sequential(
            _stage(3, width // 2, 3, 2),
            _stage(width // 2, width, 3, 2),
            *(_stage(width, width, 5) for _ in range(depth - 2)),
        )

    def forward(self, img: Tensor) -> Tensor:
        """Return features `[N, channels, H / 4, W / 4]` of images `[N, 3, H, W]`."""
        features: Tensor = self.stages(img)
        return features


def _stage(channels: int, out_channels: int, side: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels, out_channels, side, stride, side // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


class PlaceHead(nn.Module):
    """The expected place of each corner, from a map of where it is; `in_dim` comes from the model."""

    def __init__(self, in_dim: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.maps, self.temperature = nn.Conv2d(in_dim, 4, 1), temperature

    def forward(self, features: Tensor) -> Tensor:
        """Return corners `[N, 8]`: x and y of each, in fractions of the width and the height."""
        maps = self.maps(features) / self.temperature
        height, width = maps.shape[2:]
        likely = maps.flatten(2).softmax(dim=2).unflatten(2, (height, width))
        columns = (torch.arange(width, device=maps.device, dtype=maps.dtype) + 0.5) / width
        rows = (torch.arange(height, device=maps.device, dtype=maps.dtype) + 0.5) / height
        x, y = (likely.sum(dim=2) * columns).sum(dim=2), (likely.sum(dim=3) * rows).sum(dim=2)
        return torch.stack([x, y], dim=2).flatten(1)


class SmoothL1(nn.SmoothL1Loss):
    """The absolute error of each number, squared below `beta`."""

    def __init__(self, beta: float = 0.05) -> None:
        super().__init__(beta=beta)


class CornerModel(BaseMixin, L.LightningModule):
    """Finds the corners of a sheet. BaseMixin makes the optimizer and the schedule that the config names."""

    METRICS = ("loss", "valid_error")  # what it logs: callbacks and schedulers can use it
    SCORES = ("valid_error",)  # what `score` returns: a search can optimize it
    LOWER_IS_BETTER = SCORES
    HAS_ANY_SCALE = True  # per cent: the gate's tolerance is a share of them
    INTENDED_USE = (
        "Finds the four corners of a light sheet. Input: RGB images in [0, 1]. Output: x and y of each "
        "corner in fractions of the width and the height, from top left clockwise."
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
        """Return corners `[N, 8]` of images `[N, 3, H, W]` in [0, 1]."""
        corners: Tensor = self.head(self.backbone(img))
        return corners

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch `(images, corners)`."""
        images, corners = batch
        loss: Tensor = self.loss(self(images), corners.flatten(1))
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metric needs from a batch."""
        images, corners = batch
        self._validation.append((self(images).float(), corners))

    def on_validation_epoch_end(self) -> None:
        """Log the metric over the whole validation set, of which each process saw a part."""
        outputs, corners = (
            all_gather_rows(torch.cat(parts)) for parts in zip(*self._validation, strict=True)
        )
        self._validation.clear()
        self.log_dict(self.score(outputs, corners), prog_bar=True)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the metric, from the exported model's outputs: the export's gate measures it again."""
        return {"valid_error": float(self._errors(outputs, labels).mean())}

    def score_interval(self, outputs: Tensor, labels: Tensor, metric: str) -> tuple[float, float]:
        """Return its 95 % interval, from resamples of the images."""
        return self.score_replicates(outputs, labels, metric).interval

    def score_replicates(self, outputs: Tensor, labels: Tensor, metric: str) -> Replicates:
        """Return the metric in resamples of the images, by which two models are compared."""
        return mean_replicates(self._errors(outputs, labels))

    def _errors(self, outputs: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return each image's mean distance of a corner, in per cent of the image's diagonal."""
        height, width = self.config.common.image_size
        size = torch.tensor([width, height], dtype=torch.float64)
        apart = (outputs.double().cpu().unflatten(1, (4, 2)) - labels.double().cpu()) * size
        errors: NDArray[np.float64] = (100 * apart.norm(dim=2).mean(dim=1) / size.norm()).numpy()
        return errors

    def example(self, file: str) -> str:
        """Return at most ten lines for the model's card, which prepare an image as training did."""
        height, width = self.config.common.image_size
        return f"""\
import sys, cv2, numpy as np, onnxruntime
photo = cv2.imread(sys.argv[1])
image = cv2.resize(photo, ({width}, {height}), interpolation=cv2.INTER_AREA)[..., ::-1]
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
inputs = {{"img": image.transpose(2, 0, 1)[None].astype(np.float32) / 255}}
(points,) = session.run(["points"], inputs)[0]
print(points.reshape(4, 2) * photo.shape[1::-1])"""


class Points(nn.Module):
    """What is exported: the corners, without the loss."""

    def __init__(self, model: CornerModel) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, img: Tensor) -> Tensor:
        """Return corners `[N, 8]` of images `[N, 3, H, W]` in [0, 1]."""
        corners: Tensor = self.head(self.backbone(img))
        return corners
