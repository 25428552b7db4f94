"""`BaseMixin`: what every Otter model shares, in addition to being a LightningModule."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import timm.optim
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.scheduler.scheduler import Scheduler as TimmScheduler
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ExportError
from otter_ray.train.model.channels import exported_channels, reordered
from otter_ray.train.model.replicates import Replicates
from otter_ray.train.model.score_range import ScoreRange, sampled_range
from otter_ray.train.registry import find_class
from otter_ray.train.schedule.schedule_building import RunLength, build_schedule, step_timm

if TYPE_CHECKING:
    import lightning as L

    _Base = L.LightningModule
else:
    _Base = object

# What the validation loader gives besides the inputs: a tensor `[N, ...]`, or tuples and dicts of them.
Labels = Any
# Takes the exported model's inputs, and returns its outputs.
Run = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


class BaseMixin(_Base):
    """Optimizer and schedule from the config, for a LightningModule that keeps it as `self.config`.

    Class attributes:
        METRICS: Names that the model logs, so that a callback which monitors anything else is refused before
            the start; empty if they are not known.
        SCORES: Names of the metrics that `score` returns: what a study can optimize.
        LOWER_IS_BETTER: Those of `SCORES` whose smaller values are better: a study that is told otherwise
            warns; None if it is not known.
        STEADIER: Low-variance proxy metrics: metric -> another one that the model logs, and that ranks
            configurations in their early epochs as the metric does at the end. Schedulers that stop trials
            early use it.
        FRESH: Reinitialized prefixes: weights whose names start with one of them may keep their new values
            under `common.is_restore`, if the checkpoint has none or has them in another shape. Such are the
            weights of a loss, on other data.
        HAS_ANY_SCALE: Whether metrics may be far above 1: then the gate's tolerance is a share of them.
        EXACT_LABELS: Whether batches are `(images, labels)` whose labels stay float32 if `trainer.precision`
            rounds all else, as `bf16-true` does: the loss must accept both types.
        INTENDED_USE: What the exported model is for, its inputs and its outputs: Markdown for its card.

    Attributes:
        config: The model's config.
        previews: Whether to draw pictures; the run sets it.
    """

    METRICS: tuple[str, ...] = ()
    SCORES: tuple[str, ...] = ()
    LOWER_IS_BETTER: tuple[str, ...] | None = None
    STEADIER: Mapping[str, str] = MappingProxyType({})
    FRESH: tuple[str, ...] = ()
    HAS_ANY_SCALE: bool = False
    EXACT_LABELS: bool = False
    INTENDED_USE: str = ""
    config: Config
    previews: bool = False
    _preview_failed: bool = False

    @property
    def lightning_module(self) -> L.LightningModule:
        """The module that Lightning trains."""
        return self

    def configure_optimizers(self) -> Any:
        """Build the config's optimizer, and its schedule if it has one.

        Biases, norms and what a part names in `no_weight_decay()` are not decayed.
        """
        optimizer = self._build_optimizer()
        # Only now does the trainer know how many batches an epoch has.
        self.trainer.fit_loop.setup_data()
        length = RunLength.of(self.config, int(self.trainer.num_training_batches))
        schedule = build_schedule(self.config, optimizer, length)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, as Lightning does with torch's."""
        if isinstance(scheduler, TimmScheduler):
            step_timm(scheduler, self.current_epoch + 1, self.global_step, metric)
        else:
            super().lr_scheduler_step(scheduler, metric)

    def _build_optimizer(self) -> Optimizer:
        section = self.config.optimizer
        cls = find_class(section.name, "optimizer", self.config.project)
        decay = float(section.options.get("weight_decay", 0.0))
        # timm also leaves one-dimensional parameters (biases, norms) out of the decay.
        groups = timm.optim.param_groups_weight_decay(
            self, weight_decay=decay, no_weight_decay_list=_without_decay(self)
        )
        options = section.options
        # It needs a quarter of the step's time: 0.7 instead of 3.1 ms for LCNet-050 on one core.
        if self._fuses(cls) and not {"fused", "foreach", "differentiable"} & {*options}:
            options = {**options, "fused": True}
        optimizer: Optimizer = cls(groups, **options)
        return optimizer

    def _fuses(self, cls: type[Optimizer]) -> bool:
        """Return whether the optimizer has a fused kernel that Lightning can use.

        With float16, gradients have to be unscaled before they are clipped, which a fused step does itself.
        """
        precision = str(self.config.trainer.precision)
        return not precision.startswith("16") and "fused" in inspect.signature(cls).parameters

    def get_lr(self) -> float:
        """Return the current learning rate of the first parameter group."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    @property
    def preview_dir(self) -> Path:
        """The folder `RUN/preview/epoch_NNNN`, made on demand; epochs count from 1, as in reports."""
        folder = Path(self.trainer.default_root_dir) / "preview" / f"epoch_{self.current_epoch + 1:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def previewing(self) -> Iterator[None]:
        """Guard drawing and showing: what fails, such as writing to a folder, costs pictures, not the run.

        It warns once. Draw no random numbers here: a run with previews must train like one without.
        """
        try:
            yield
        except Exception as exc:
            if not self._preview_failed:
                self._preview_failed = True
                reason = f"{type(exc).__name__}: {exc}".rstrip(".")
                warnings.warn(
                    f"a preview failed, and the run continues without it: {reason}. Fix the cause, or set "
                    "common.preview: false.",
                    stacklevel=3,
                )

    def show(self, name: str, image: NDArray[np.uint8]) -> None:
        """Write `image` (uint8 [h, w, 3], RGB) as `NAME.png`, and for TensorBoard as `preview/NAME`."""
        if self.trainer.is_global_zero:
            Image.fromarray(image).save(self.preview_dir / f"{name}.png")
            self._log_preview("add_image", name, image, dataformats="HWC")

    def show_text(self, name: str, text: str) -> None:
        """Write `text` as `NAME.txt`, and for TensorBoard, in a fixed pitch, as `preview/NAME`."""
        if self.trainer.is_global_zero:
            (self.preview_dir / f"{name}.txt").write_text(text, encoding="utf-8")
            # TensorBoard reads Markdown, where indented text keeps its columns.
            self._log_preview("add_text", name, textwrap.indent(text, "    "))

    def _log_preview(self, method: str, name: str, content: Any, **options: Any) -> None:
        for logger in self.loggers:
            add = getattr(getattr(logger, "experiment", None), method, None)
            if add is not None:
                add(f"preview/{name}", content, self.global_step, **options)

    def pretend_loss(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return a dummy loss of inputs without labels: a study tries by it whether a model can be trained.

        It is the sum of the outputs, unless a model makes up labels for its own loss.
        """
        outputs = self(*inputs)
        parts = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return torch.stack([part.sum() for part in parts]).sum()

    def exported_batch(self, batch: Any) -> tuple[Sequence[torch.Tensor], Labels]:
        """Split a batch of the validation loader into (inputs as in `onnx.input_names`, labels `[N, ...]`).

        A batch is `(images, labels)`, the images RGB, unless a model says otherwise. If the exported model
        takes BGR (`onnx.wrapper_options.channels`), the inputs are that. Labels may be tuples or dicts of
        tensors: `score` gets them joined, key by key.
        """
        images, labels = batch
        return [reordered(images, exported_channels(self.config))], labels

    def reduce_outputs(self, outputs: Any, labels: Labels) -> Any:
        """Return what `score` needs of one batch's outputs; all of them by default.

        A model with large outputs, such as heatmaps, decodes them here: only the results of a whole
        validation set are kept. They are a tensor `[N, ...]` or a tuple of such, and what `score`,
        `score_interval`, `score_range` and `illustrate` get. The gate compares the outputs before that.

        Args:
            outputs: The exported wrapper's `Outputs` for the batch.
            labels: The batch's.
        """
        return outputs

    def score(self, outputs: Any, labels: Labels) -> dict[str, float]:
        """Return the metrics of a whole validation set, from the exported wrapper's `Outputs` and the labels.

        The outputs are those of `reduce_outputs`.

        Every model that is exported must implement it.
        """
        raise ExportError(
            f"{type(self).__name__} does not implement score(outputs, labels), by which an export is "
            "measured. Implement it; see docs/reference/project.md."
        )

    def measure(self, run: Run, outputs: Any, labels: Labels) -> tuple[dict[str, float], str]:
        """Return the metrics of a network over the whole validation set, and why they are not its own.

        Args:
            run: The network: the exported file's, or PyTorch's.
            outputs: What it gave, as `score` gets it.
            labels: The labels.

        Returns:
            The metrics, and a sentence that is empty if they were measured on `run` or its outputs.
        """
        return self.score(outputs, labels), ""

    def score_interval(self, outputs: Any, labels: Labels, metric: str) -> tuple[float, float] | None:
        """Return the 95 % confidence interval of one of `score`'s metrics; None if it is not known."""
        return None

    def score_step(self, labels: Labels, metric: str) -> float:
        """Return the smallest step of one of `score`'s metrics, 0 if it has none.

        A share of N images moves by 1/N if one of them is decided differently. The gate lets a metric differ
        by one step: a single image whose outputs are tied refuses no file.
        """
        return 0.0

    def score_replicates(self, outputs: Any, labels: Labels, metric: str) -> Replicates | None:
        """Return one of `score`'s metrics in resamples of the set; None if they are not known.

        Two models are compared by them, resample by resample. So which items are drawn must depend on the
        labels alone.
        """
        return None

    def score_range(
        self, outputs: Any, others: Sequence[Any], labels: Labels, metric: str
    ) -> ScoreRange | None:
        """Return where one of `score`'s metrics lies, however outputs are rounded; None if that is not known.

        The export asks only if a metric differs from PyTorch's or the training's. By default it is estimated
        from outputs that are disturbed at random; a model that can bound its metric should do so.

        Args:
            outputs: The exact outputs, as `score` gets them.
            others: The same outputs, rounded in different ways.
            labels: The labels.
            metric: The metric.
        """
        return sampled_range(lambda disturbed: self.score(disturbed, labels), outputs, others, metric)

    def score_details(self) -> dict[str, Any]:
        """Return what the last `score` rests on, as plain data for a model's JSON; nothing by default.

        Rows `{fpr, tpr, threshold}` in `roc`, with the numbers `positive_pairs` and `negative_pairs` that
        they rest on, become the card's thresholds.
        """
        return {}

    def example(self, file: str) -> str | None:
        """Return a program of at most ten lines for the card, which runs `file` on what `sys.argv` names.

        It prepares the inputs as training did, with nothing but onnxruntime, numpy and an image reader. If it
        is None, the card's program runs the file on blank inputs.
        """
        return None

    def search_example(self, file: str) -> str | None:
        """Return a program of at most ten lines that finds an image among others, for embeddings.

        None if the model is not for that.
        """
        return None

    def illustrate(self, outputs: Any, labels: Labels, dataset: Dataset[Any]) -> dict[str, Any]:
        """Return what a report shows of a model besides its figures, as plain data; nothing by default.

        Args:
            outputs: The outputs, as `score` gets them, in the order of the data set.
            labels: The labels, in the same order.
            dataset: The validation set.

        Returns:
            `curves`: each with `title`, `x_title`, `y_title` and numbers `x`, `y`. `log_x`, and a `mark` with
            `x`, `y`, `text`, can be left out.
            `galleries`: each with `title`, `text` and `rows` of pictures, which have `image` (a `data:` URI),
            `name`, `text` and `kind` (`right`, `wrong` or empty).
        """
        return {}


def _without_decay(model: nn.Module) -> set[str]:
    """Return the parameters that the model's parts spare the weight decay, in timm's way.

    `no_weight_decay()` of a module returns names of its own parameters, such as learned queries.
    """
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in model.named_modules()
        if callable(names := getattr(part, "no_weight_decay", None))
        for name in names()
    }
