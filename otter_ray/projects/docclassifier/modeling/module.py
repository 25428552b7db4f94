"""The LightningModule of DocClassifier: an embedding learned with a margin softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from otter_ray.config import Component, Config
from otter_ray.errors import ConfigError, TrainingError
from otter_ray.projects.docclassifier.metrics.bootstrap import interval, replicates
from otter_ray.projects.docclassifier.metrics.pair_roc import METRICS, PairROC, validation_metrics
from otter_ray.projects.docclassifier.metrics.rounding import rounding_range
from otter_ray.projects.docclassifier.modeling.clip_teacher import ClipDistillation
from otter_ray.projects.docclassifier.modeling.losses import PartialFC
from otter_ray.projects.docclassifier.visuals import gallery, model_card, previews
from otter_ray.train.builders import backbone_options
from otter_ray.train.distributed import all_gather_rows
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.model.replicates import Replicates
from otter_ray.train.model.score_range import ScoreRange
from otter_ray.train.registry import accepted, find_class
from otter_ray.train.torch_compat import exclude_from_ddp
from otter_ray.vision import backbones
from otter_ray.vision.memory_format import fast_memory_format


class ClassifierModel(BaseMixin, L.LightningModule):
    """Backbone, neck, head and loss as the config names them.

    `model.head.options.in_dim` and `feature_map_size` follow from the backbone and the image size if they
    are -1 or absent. With `common.use_clip` the embeddings of clean images follow a frozen teacher,
    `model.teacher`. It is built when a fit begins and is not part of the module, so that weights, optimizer
    and export do not include it.

    Raises:
        ConfigError: One of them contradicts the backbone, or a class refuses its options.
    """

    SCORES = METRICS
    LOWER_IS_BETTER = ()
    STEADIER = MappingProxyType({"valid_fpr@4": "valid_pauc@2"})  # measured: docs/explanation/defaults.md
    FRESH = ("loss.", "distillation.")
    INTENDED_USE = model_card.INTENDED_USE
    METRICS = (
        "loss",
        "loss_step",
        "loss_epoch",
        "lr",
        "margin_loss",
        "clip_loss",
        *METRICS,
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        _check_embed_dim(config)
        section = config.model
        self.backbone = _build(config, "backbone", backbone_options(config))
        self.neck = nn.Identity() if section.neck is None else _build(config, "neck", section.neck.options)
        head = find_class(section.head.name, "head", config.project)
        self.head = _build(config, "head", _head_options(config, head, self.backbone))
        self.loss = _build(config, "loss", section.loss.arguments)
        if self._centres is not None and self._centres.sharded:
            # Each rank has centres of its own: nothing to broadcast, nothing to average.
            exclude_from_ddp(self, ["loss.weight"])
        # In a tuple torch does not find it.
        self.teacher: tuple[nn.Module, ...] = ()
        if config.common.use_clip:
            width = _teacher(config, "width")
            self.distillation = ClipDistillation(section.loss.arguments["embed_dim"], width)
        self.memory_format = fast_memory_format(self)
        self.to(memory_format=self.memory_format)
        self.roc: PairROC | None = None
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._augment_batch: Callable[[Sequence[Tensor], int], Sequence[Tensor]] | None = None

    @property  # type: ignore[misc]
    def example_input_array(self) -> Tensor:
        """One black image, without which Lightning's summaries print FLOPs of 0."""
        # Of the dtype that the trainer's precision has made of the weights by then.
        return next(self.parameters()).new_zeros(1, 3, *self.config.common.image_size)

    def setup(self, stage: str) -> None:
        """Build the teacher for a fit, with or without a trainer. Raises TrainingError if that fails."""
        if stage == "fit" and self.config.common.use_clip:
            self.teacher = (_teacher(self.config).to(self.device),)

    def on_train_start(self) -> None:
        """Ask the training set how to augment its batches, if it leaves that to the device."""
        super().on_train_start()
        dataset = getattr(self.trainer.train_dataloader, "dataset", None)
        self._augment_batch = getattr(dataset, "augment_batch", None)

    def forward(self, img: Tensor) -> Tensor:
        """Return embeddings `[N, embed_dim]`, not normalised, of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.neck(self.backbone(img)))
        return embeddings

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the margin loss of images `[N, 3, H, W]` and labels `[N]`.

        With `use_clip` a batch also has clean images `[N, 3, H, W]`, whose distance to the teacher is added.
        Both halves go through the network at once.
        """
        if self._augment_batch is not None:
            batch = self._augment_batch(batch, batch_idx)
        images, labels, *clean = batch
        _check_clean(clean, self.config.common.use_clip)
        if self.previews and batch_idx % self.config.common.preview_batch == 0:
            with self.previewing():
                self.show(f"train_batch_{batch_idx}", previews.batch_picture(images, labels))
        # As the trainer's precision would have made them; bytes must not be taken for images.
        images, *clean = (
            part.to(self.dtype) if part.is_floating_point() else part for part in (images, *clean)
        )
        seen = torch.cat([images, *clean]) if clean else images
        embeddings = self(seen.contiguous(memory_format=self.memory_format))
        loss: Tensor = self.loss(embeddings[: len(images)], labels)
        if clean:
            clip_loss = self.distillation(embeddings[len(images) :], self.teacher[0](*clean))
            self.log_dict({"margin_loss": loss, "clip_loss": clip_loss}, on_step=False, on_epoch=True)
            loss = loss + clip_loss
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("lr", self.get_lr(), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep a batch's embeddings: the metric needs all pairs."""
        images, labels = batch
        self._validation.append((self(images.contiguous(memory_format=self.memory_format)).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole validation set, of which each rank saw a part."""
        seen = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        embeddings, labels = map(all_gather_rows, seen)
        self._validation.clear()
        self.log_dict(self.score(embeddings, labels), prog_bar=True)
        if (
            self.previews
            and self.trainer.is_global_zero
            and self.roc is not None
            and self.roc.num_positives
            and self.roc.num_negatives
        ):
            with self.previewing():
                self._preview(self.roc, embeddings, labels)

    def _preview(self, roc: PairROC, embeddings: Tensor, labels: Tensor) -> None:
        dataset = getattr(self.trainer.val_dataloaders, "dataset", None)
        names = getattr(dataset, "class_names", None)
        self.show_text("tpr_fpr_table", previews.tpr_fpr_table(roc))
        self.show("roc", previews.roc_picture(roc))
        self.show("pca", previews.pca_picture(embeddings, labels, names))

    @property
    def _centres(self) -> PartialFC | None:
        return self.loss if isinstance(self.loss, PartialFC) else None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all ranks' centres; with a norm of its own each rank would drift away."""
        by_value = str(gradient_clip_algorithm).endswith("value")
        if self._centres is None or not self._centres.sharded or not gradient_clip_val or by_value:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        own = [p.grad for p in parameters if p.grad is not None and p is self._centres.weight]
        shared = [p.grad for p in parameters if p.grad is not None and p is not self._centres.weight]
        squared = nn.utils.get_total_norm(own).square().to(self.device)
        dist.all_reduce(squared)
        norm = (squared + nn.utils.get_total_norm(shared).square()).sqrt()
        nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save as BaseMixin does, with the optimizer's state of all ranks' centres."""
        super().on_save_checkpoint(checkpoint)
        if self._centres is not None and "optimizer_states" in checkpoint:
            groups = self.trainer.optimizers[0].param_groups
            places = [p is self._centres.weight for group in groups for p in group["params"]]
            checkpoint["centres"] = places.index(True)
            _change_states(checkpoint, self._centres.weight.shape, self._centres.gather)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this rank's part of the optimizer's state of the centres."""
        if self._centres is not None and "centres" in checkpoint:
            whole = torch.Size([self._centres.num_classes, self._centres.embed_dim])
            _change_states(checkpoint, whole, self._centres.own)

    def pretend_loss(self, *inputs: Tensor) -> Tensor:
        """Return the margin loss if each image is of another class."""
        embeddings = self(*inputs)
        loss: Tensor = self.loss(embeddings, torch.arange(len(embeddings)))
        return loss

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the validation metrics of embeddings `[N, D]` with labels `[N]`."""
        metrics, self.roc = validation_metrics(outputs, labels)
        return metrics

    def score_interval(self, outputs: Tensor, labels: Tensor, metric: str) -> tuple[float, float] | None:
        """Bootstrap over documents and images, for embeddings `[N, D]` with labels `[N]`."""
        return interval(outputs, labels, metric)

    def score_replicates(self, outputs: Tensor, labels: Tensor, metric: str) -> Replicates | None:
        """Return the metric in resamples of documents and images, for embeddings `[N, D]`, labels `[N]`."""
        return replicates(outputs, labels, metric)

    def score_range(
        self, outputs: Tensor, others: Sequence[Tensor], labels: Tensor, metric: str
    ) -> ScoreRange | None:
        """Bound a metric, if no pair's score moves further than it does between the outputs."""
        return rounding_range(outputs, others, labels, metric)

    def score_details(self) -> dict[str, Any]:
        """Return TPR and threshold at FPR 1e-5 ... 1, and the numbers of pairs they rest on."""
        if self.roc is None:
            return {}
        rows = [{"fpr": fpr, "tpr": tpr, "threshold": threshold} for fpr, tpr, threshold in self.roc.table()]
        pairs = {"positive_pairs": self.roc.num_positives, "negative_pairs": self.roc.num_negatives}
        return {"roc": rows, **pairs}

    def example(self, file: str) -> str:
        """Return a program that compares two images, as validation does."""
        return model_card.example(self.config, file)

    def search_example(self, file: str) -> str:
        """Return a program that sorts enrolled images by their similarity to another one."""
        return model_card.search_example(self.config, file)

    def illustrate(self, outputs: Tensor, labels: Tensor, dataset: Dataset[Any]) -> dict[str, Any]:
        """Return the ROC curve, images with their nearest neighbours, and the hardest false pairs."""
        self.score(outputs, labels)
        return gallery.illustrate(outputs, labels, dataset, self.roc)


def _change_states(checkpoint: dict[str, Any], shape: torch.Size, change: Callable[[Tensor], Tensor]) -> None:
    """Replace what the optimizer keeps for each centre in a checkpoint, not in the optimizer."""
    states = checkpoint["optimizer_states"][0]["state"]
    if kept := states.get(checkpoint["centres"]):
        states[checkpoint["centres"]] = {
            name: change(value) if isinstance(value, Tensor) and value.shape == shape else value
            for name, value in kept.items()
        }


def _check_embed_dim(config: Config) -> None:
    """Raise ConfigError if the embeddings of head and loss differ in length."""
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


def _check_clean(clean: Sequence[Tensor], wanted: bool) -> None:
    """Raise TrainingError if the training set returns clean images but should not, or the other way round."""
    if bool(clean) != wanted:
        returned, other = (
            "(image, label, clean image)",
            "returns clean images only if common.use_clip is true",
        )
        if not clean:
            returned, other = "(image, label)", "also returns clean images"
        raise TrainingError(
            f"common.use_clip is {str(wanted).lower()}, but the training set returns {returned}. Set it to "
            f"{str(not wanted).lower()}, or use a data set that {other}, such as SynthDataset."
        )


def _build(config: Config, part: str, arguments: Mapping[str, object]) -> Any:
    name = getattr(config.model, part).name
    return _call(config, part, name, find_class(name, part, config.project), arguments)


def _teacher(config: Config, method: str | None = None) -> Any:
    """Build the teacher, or return what a class method of it returns for the same arguments."""
    section = config.model.teacher or Component(name="ClipTeacher")
    cls = find_class(section.name, "teacher", config.project)
    return _call(config, "teacher", section.name, getattr(cls, method) if method else cls, section.options)


def _call(
    config: Config, part: str, name: str, function: Callable[..., Any], arguments: Mapping[str, object]
) -> Any:
    """Call the function. Raises ConfigError at the part's options if it refuses them."""
    try:
        return function(**arguments)
    except (TypeError, ValueError) as exc:
        problem = config.problem(f"model.{part}.options", f"{name} refuses them: {exc}")
        raise ConfigError([problem]) from exc


def _head_options(config: Config, cls: type[nn.Module], backbone: backbones.Backbone) -> dict[str, object]:
    """Fill in the head's options that follow from the backbone.

    `feature_map_size` is the side of a square map, `[height, width]` of another.
    """
    try:
        height, width = backbone.feature_map_size(config.common.image_size)
    except ValueError as exc:
        raise ConfigError([config.problem("model.backbone", str(exc))]) from exc
    facts: dict[str, object] = {
        "in_dim": backbone.channels[-1],
        "feature_map_size": height if height == width else [height, width],
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
