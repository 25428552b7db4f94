"""The model: what the config's `model:` and `onnx:` name."""

from __future__ import annotations

from itertools import pairwise

import lightning as L
import torch
from otter_ray import BaseMixin
from otter_ray.config import Config
from otter_ray.train import all_gather_rows, find_class
from torch import Tensor, nn
from torch.nn import functional

ROWS_AT_ONCE = 1024  # of the matrix that compares each image with all others


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
            ),
            nn.AdaptiveAvgPool2d(4),
        )

    def forward(self, img: Tensor) -> Tensor:
        """Return features `[N, 16 * channels]` of images `[N, 3, H, W]`."""
        features: Tensor = self.stages(img)
        return features.flatten(1)


class EmbeddingHead(nn.Module):
    """Unit embeddings of features; `in_dim` comes from the model."""

    def __init__(self, in_dim: int, dim: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings `[N, dim]` of length 1."""
        return functional.normalize(self.linear(features))


class CosineSoftmax(nn.Module):
    """Cross entropy of the cosines with a learned centre for each class of the training set."""

    def __init__(self, dim: int, num_classes: int, scale: float = 16.0, margin: float = 0.2) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(num_classes, dim))
        self.num_classes, self.scale, self.margin = num_classes, scale, margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss; a class's own cosine counts as `margin` less."""
        cosines = embeddings @ functional.normalize(self.centres).T
        margins = self.margin * functional.one_hot(labels, self.num_classes)
        return functional.cross_entropy(self.scale * (cosines - margins), labels)


class EmbeddingModel(BaseMixin, L.LightningModule):
    """Images of the same mark get similar embeddings. BaseMixin makes the optimizer and the schedule."""

    METRICS = ("loss", "valid_retrieval")  # what it logs: callbacks and schedulers can use it
    SCORES = ("valid_retrieval",)  # what `score` returns: a search can optimize it
    LOWER_IS_BETTER = ()
    FRESH = ("loss.",)  # other training classes have other centres
    INTENDED_USE = (
        "Finds images of the same mark. Input: RGB images in [0, 1]. Output: embeddings of length 1; the "
        "greater the dot product of two, the more similar the marks are."
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts = config.model
        self.backbone = find_class(parts.backbone.name, "backbone", config.project)(**parts.backbone.options)
        head = find_class(parts.head.name, "head", config.project)
        self.head = head(16 * self.backbone.channels, **parts.head.options)
        loss = find_class(parts.loss.name, "loss", config.project)
        self.loss = loss(self.head.linear.out_features, **parts.loss.arguments)
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, img: Tensor) -> Tensor:
        """Return embeddings `[N, dim]` of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.backbone(img))
        return embeddings

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch `(images, labels)`."""
        images, labels = batch
        loss: Tensor = self.loss(self(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metric needs from a batch."""
        images, labels = batch
        self._validation.append((self(images).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Log the metric over the whole validation set, of which each process saw a part."""
        outputs, labels = (all_gather_rows(torch.cat(parts)) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(outputs, labels), prog_bar=True)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the metric, from the exported model's outputs: the export's gate measures it again."""
        # No interval is given: images of one mark are not independent, and neither are the answers.
        nearest = [_nearest(rows, outputs) for rows in torch.arange(len(outputs)).split(ROWS_AT_ONCE)]
        found = labels[torch.cat(nearest)]
        return {"valid_retrieval": (found == labels).double().mean().item()}

    def score_step(self, labels: Tensor, metric: str) -> float:
        """Return how far one image moves the metric: the exported file may differ by that."""
        return 1 / len(labels)

    def example(self, file: str) -> str:
        """Return at most ten lines for the model's card, which prepare images as training did."""
        height, width = self.config.common.image_size
        return f"""\
import sys, cv2, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
images = [cv2.imread(name)[..., ::-1] for name in sys.argv[1:]]
images = [cv2.resize(image, ({width}, {height}), interpolation=cv2.INTER_AREA) for image in images]
inputs = {{"img": np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255}}
(embeddings,) = session.run(["embedding"], inputs)
print(embeddings @ embeddings.T)"""


def _nearest(rows: Tensor, outputs: Tensor) -> Tensor:
    """Return which other output is the most similar to each of `rows`."""
    similar = outputs[rows] @ outputs.T
    similar[torch.arange(len(rows)), rows] = -2.0
    return similar.argmax(dim=1)


class Embedding(nn.Module):
    """What is exported: the embeddings, without the loss and its centres."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, img: Tensor) -> Tensor:
        """Return embeddings `[N, dim]` of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.backbone(img))
        return embeddings
