"""The LightningModule of DocClassifier: an embedding learned with a margin softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from otter_ray.config import Config
from otter_ray.docclassifier import network
from otter_ray.docclassifier.metric import PairROC, validation_metrics
from otter_ray.errors import ConfigError
from otter_ray.train.components import accepted, find_class
from otter_ray.train.mixin import BaseMixin


class ClassifierModel(BaseMixin, L.LightningModule):
    """Backbone, neck, head and loss as the config names them.

    `model.head.options.in_dim` and `feature_map_size` follow from the backbone and the image size where
    they are -1 or absent.

    Raises:
        ConfigError: one of them contradicts the backbone, or a class refuses its options.
    """

    SCORES = ("valid_fpr@4", "valid_auc")
    METRICS = ("loss", "loss_step", "loss_epoch", "lr", "valid_fpr@4", "valid_auc")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        _check_embed_dim(config)
        section = config.model
        self.backbone = _build(config, "backbone", section.backbone.options)
        self.neck = nn.Identity() if section.neck is None else _build(config, "neck", section.neck.options)
        head = find_class(section.head.name, "head", config.project)
        self.head = _build(config, "head", _head_options(config, head, self.backbone))
        self.loss = _build(config, "loss", section.loss.arguments)
        # On a CPU a training step in this layout takes 0.6 of the time; weights and results are the same.
        self.to(memory_format=torch.channels_last)
        self.roc: PairROC | None = None
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, img: Tensor) -> Tensor:
        """Embeddings `[N, embed_dim]`, not normalised, of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.neck(self.backbone(img)))
        return embeddings

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The margin loss of one batch."""
        images, labels = batch
        loss: Tensor = self.loss(self(images.contiguous(memory_format=torch.channels_last)), labels)
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("lr", self.get_lr(), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keeps a batch's embeddings: the metric needs all pairs."""
        images, labels = batch
        self._validation.append((self(images.contiguous(memory_format=torch.channels_last)).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Logs `valid_fpr@4` and `valid_auc` over the whole validation set."""
        embeddings, labels = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(embeddings, labels), prog_bar=True)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """The validation metrics of embeddings `[N, D]` with labels `[N]`; the export's gate asks, too."""
        metrics, self.roc = validation_metrics(outputs, labels)
        return metrics

    def score_details(self) -> dict[str, Any]:
        """The table of TPR and threshold at FPR 1e-5 ... 1, and the pairs that it rests on."""
        if self.roc is None:
            return {}
        rows = [{"fpr": fpr, "tpr": tpr, "threshold": threshold} for fpr, tpr, threshold in self.roc.table()]
        pairs = {"positive_pairs": self.roc.num_positives, "negative_pairs": self.roc.num_negatives}
        return {"roc": rows, **pairs}


def _check_embed_dim(config: Config) -> None:
    """The head makes what the loss compares: raises ConfigError where their lengths differ."""
    head, loss = config.model.head.options.get("embed_dim"), config.model.loss.arguments.get("embed_dim")
    if head != loss:
        raise ConfigError(
            [
                config.problem(
                    "model.head.options.embed_dim",
                    f"{head} but model.loss.embed_dim is {loss}. Make them the same.",
                )
            ]
        )


def _build(config: Config, part: str, arguments: Mapping[str, object]) -> Any:
    name = getattr(config.model, part).name
    try:
        return find_class(name, part, config.project)(**arguments)
    except (TypeError, ValueError) as exc:
        problem = config.problem(f"model.{part}.options", f"{name} refuses them: {exc}")
        raise ConfigError([problem]) from exc


def _head_options(config: Config, cls: type[nn.Module], backbone: network.Backbone) -> dict[str, object]:
    """The head's options with what follows from the backbone filled in."""
    facts = {
        "in_dim": backbone.channels[-1],
        "feature_map_size": backbone.feature_map_size(config.common.image_size),
    }
    options = dict(config.model.head.options)
    name = config.model.backbone.options.get("name")
    problems = [
        config.problem(
            f"model.head.options.{key}",
            f"{options[key]} contradicts model.backbone.options.name: {name} gives {fact} at "
            f"{'x'.join(map(str, config.common.image_size))} px. Set {fact}, or -1 to follow the backbone.",
        )
        for key, fact in facts.items()
        if options.get(key, -1) not in (-1, fact)
    ]
    if problems:
        raise ConfigError(problems)
    return options | accepted(cls, facts)
