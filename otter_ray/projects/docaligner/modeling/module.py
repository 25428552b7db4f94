"""The LightningModule of DocAligner: the corners of the document in a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError, Problem
from otter_ray.projects.docaligner.corners import LABEL, has_document
from otter_ray.projects.docaligner.metrics import scores
from otter_ray.projects.docaligner.metrics.scores import Scores
from otter_ray.projects.docaligner.modeling.decoding import PeakPlace, decode
from otter_ray.projects.docaligner.modeling.heads import HeatmapHead, PointHead, Prediction
from otter_ray.projects.docaligner.modeling.network import Network, build_loss
from otter_ray.projects.docaligner.visuals import gallery, model_card
from otter_ray.train.distributed import all_gather_rows
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.model.replicates import Replicates
from otter_ray.train.model.score_range import ScoreRange
from otter_ray.train.registry import find_class
from otter_ray.vision.memory_format import fast_memory_format

LOSSES = ("corner_loss", "edge_loss", "point_loss", "object_loss")
# Stands for a corner that was not found, in tensors that must not hold NaN.
MISSING = -1.0


class AlignerModel(BaseMixin, L.LightningModule):
    """Backbone, neck, head and loss as the config names them.

    Targets are drawn on the device from the corners in the labels.

    Raises:
        ConfigError: One of them contradicts another, or a class refuses its options.
    """

    METRICS = ("loss", "loss_step", "loss_epoch", "lr", *LOSSES, *scores.METRICS)
    SCORES = scores.SCORES
    LOWER_IS_BETTER = ()
    # The metric is 0 as long as heatmaps are fainter than the client's threshold; the expected place is not.
    STEADIER = MappingProxyType({scores.IOU: scores.PEAK})
    INTENDED_USE = model_card.INTENDED_USE
    EXACT_LABELS = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = Network(config)
        self.loss = build_loss(config)
        if problems := [*_loss_problems(config, self.network), *_output_problems(config, self.network)]:
            raise ConfigError(problems)
        self.place = PeakPlace()
        self.memory_format = fast_memory_format(self)
        self.to(memory_format=self.memory_format)
        self._validation: list[tuple[Tensor, Tensor, Tensor]] = []

    @property  # type: ignore[misc]
    def example_input_array(self) -> Tensor:
        """One black image, without which Lightning's summaries print FLOPs of 0."""
        return next(self.parameters()).new_zeros(1, 3, *self.config.common.image_size)

    def forward(self, img: Tensor) -> Prediction:
        """Return the prediction for images `[N, 3, H, W]`, RGB in [0, 1]."""
        prediction: Prediction = self.network(img)
        return prediction

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of images `[N, 3, H, W]` and labels `[N, LABEL]`."""
        images, labels = batch
        if self.previews and batch_idx % self.config.common.preview_batch == 0:
            with self.previewing():
                self.show(f"train_batch_{batch_idx}", gallery.batch_picture(images, labels))
        images = images.to(self.dtype).contiguous(memory_format=self.memory_format)
        parts = self.loss(self(images), labels)
        loss = torch.stack([*parts.values()]).sum()
        self.log_dict(parts, on_step=False, on_epoch=True)
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("lr", self.get_lr(), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Keep a batch's corners."""
        images, labels = batch
        prediction = self(images.to(self.dtype).contiguous(memory_format=self.memory_format))
        size = (images.shape[2], images.shape[3])
        self._validation.append((*self._corners(prediction, size), labels))

    def _corners(self, prediction: Prediction, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return corners as a client finds them and as they are expected, each `[N, 4, 2]`."""
        if prediction.corners is None:
            assert prediction.points is not None
            assert prediction.has_object is not None
            return _kept_points(prediction.points.float(), prediction.has_object.sigmoid())
        heatmaps = prediction.corners.float().sigmoid()
        return _kept(decode(heatmaps, size)).to(heatmaps), self.place(heatmaps)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole validation set, of which each rank saw a part."""
        seen = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        found, expected, labels = map(all_gather_rows, seen)
        self._validation.clear()
        self.log_dict(self.score((found, expected), labels), prog_bar=True)

    def pretend_loss(self, *inputs: Tensor) -> Tensor:
        """Return the loss if each image shows a document that half fills it."""
        labels = torch.tensor([0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75, 1, 1, 1])
        parts = self.loss(self(*inputs), labels.expand(len(inputs[0]), LABEL))
        return torch.stack([*parts.values()]).sum()

    def reduce_outputs(self, outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return corners as a client finds them and as they are expected, each `[N, 4, 2]`, of a batch."""
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if isinstance(self.network.head, PointHead):
            return _kept_points(outputs[0].unflatten(1, (4, 2)), outputs[1])
        height, width = self.config.common.image_size
        points = outputs[1].unflatten(1, (4, 2)) if len(outputs) > 1 else self.place(outputs[0])
        return _kept(decode(outputs[0], (height, width))).to(points), points

    def score(self, outputs: Any, labels: Tensor) -> dict[str, float]:
        """Return the metrics of what `reduce_outputs` returns for photographs with labels `[N, LABEL]`."""
        return self._scores(outputs, labels).means()

    def _scores(self, outputs: Any, labels: Tensor) -> Scores:
        found, expected = outputs
        return scores.scores(found.masked_fill(found == MISSING, torch.nan), expected, labels)

    def score_interval(self, outputs: Any, labels: Tensor, metric: str) -> tuple[float, float] | None:
        """Bootstrap over the photographs."""
        return self._scores(outputs, labels).interval(metric)

    def score_replicates(self, outputs: Any, labels: Tensor, metric: str) -> Replicates | None:
        """Return a metric in resamples of the photographs."""
        return self._scores(outputs, labels).replicates(metric)

    def score_range(
        self, outputs: Any, others: Sequence[Any], labels: Tensor, metric: str
    ) -> ScoreRange | None:
        """Return the range of the metric over the outputs, and one photograph more.

        A heatmap whose peak is at the client's threshold has a corner or none, by rounding.
        """
        values = [self._scores(each, labels).means()[metric] for each in (outputs, *others)]
        step = self.score_step(labels, metric)
        reason = f"the validation set has {len(labels)} photographs, and a faint peak is a corner or none"
        return ScoreRange(min(values) - step, max(values) + step, reason)

    def score_step(self, labels: Tensor, metric: str) -> float:
        """Return by how much one photograph can change a metric."""
        if metric == scores.DISTANCE:
            return 0.0
        shown = has_document(labels)
        return 1 / max(1, int((~shown if metric == scores.EMPTY else shown).sum()))

    def example(self, file: str) -> str:
        """Return a program that prints the corners in a photograph."""
        return model_card.example(self.config, file)

    def illustrate(self, outputs: Any, labels: Tensor, dataset: Dataset[Any]) -> dict[str, Any]:
        """Return photographs with the corners found, the worst first."""
        found, _ = outputs
        return gallery.illustrate(
            found.masked_fill(found == MISSING, torch.nan), labels, dataset, self._scores(outputs, labels)
        )


def _kept(corners: Tensor) -> Tensor:
    return corners.nan_to_num(nan=MISSING)


def _kept_points(points: Tensor, has_object: Tensor) -> tuple[Tensor, Tensor]:
    """Return points as the client reads them, which are none without a document, and as they are."""
    return points.masked_fill(~(has_object > 0.5)[..., None], MISSING), points


def _loss_problems(config: Config, network: Network) -> list[Problem]:
    """Return the options of the loss that the head makes useless or impossible."""
    given, head = config.model.loss.arguments, network.head
    useless = dict[str, str]()
    if isinstance(head, PointHead):
        useless |= dict.fromkeys(("corner", "sigma", "foreground"), "predicts no heatmaps")
    if isinstance(head, PointHead) or not config.model.head.options.get("edge", True):
        useless["edge_weight"] = "predicts no outline"
    if isinstance(head, HeatmapHead):
        useless["point_weight"] = "predicts no points"
        if not config.model.head.options.get("has_object", True):
            useless["object_weight"] = "does not predict whether there is a document"
    found = [
        config.problem(
            f"model.loss.options.{key}",
            f"{given[key]} has no effect: {config.model.head.name} {reason}. Remove it.",
        )
        for key, reason in useless.items()
        if given.get(key)
    ]
    if isinstance(head, HeatmapHead):
        downscale = int(config.model.head.options.get("downscale", 4))
        side = min(config.common.image_size) // downscale
        sigma = float(given.get("sigma", 1.5))
        if sigma > side / 4:
            message = f"{sigma:g} is too large for heatmaps of {side} px. Give at most {side / 4:g}."
            found.append(config.problem("model.loss.options.sigma", message))
    return found


def _output_problems(config: Config, network: Network) -> list[Problem]:
    """Return what is wrong with the names of the exported model's outputs: clients know them by name."""
    if config.onnx is None:
        return []
    try:
        wrapper = find_class(config.onnx.name, "wrapper", config.project)
    except LookupError:
        return []  # reported where names are looked up
    known = getattr(wrapper, "OUTPUTS", None)
    if known is None:
        return []
    makes_points = "heatmap" not in known
    if makes_points != isinstance(network.head, PointHead):
        other = "WarpHeatmap" if makes_points else "WarpPoints"
        message = f"{config.onnx.name} cannot export {config.model.head.name}. Use {other}."
        return [config.problem("onnx.name", message)]
    expected = [*known]
    if not makes_points and not config.onnx.wrapper_options.get("with_points", True):
        expected = expected[:1]
    if config.onnx.output_names != expected:
        lacking = [name for name in expected if name not in config.onnx.output_names]
        reason = f"lacks {', '.join(lacking)}" if lacking else "has other names, or another order"
        message = f"{config.onnx.output_names} {reason}, by which clients find it. Give {expected}."
        return [config.problem("onnx.output_names", message)]
    return []
