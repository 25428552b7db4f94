"""`BaseMixin`: what every Otter model shares, beside being a LightningModule."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import timm.optim
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.optim import Optimizer
from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.train.components import find_class

if TYPE_CHECKING:
    import lightning as L

    _Base = L.LightningModule
else:
    _Base = object

WARMUP_SHARE = 0.1
# What an exported model gives for `N` items: its only output `[N, ...]`, or all of them in order.
Outputs = torch.Tensor | tuple[torch.Tensor, ...]


class BaseMixin(_Base):
    """Optimizer and schedule from the config, for a LightningModule that keeps it as `self.config`.

    Class attributes:
        METRICS: names that the model logs, so that a monitor of anything else is refused before the
            start; empty: not known.
        SCORES: names that `score` gives: what a study can be about.
        STEADIER: metric -> another that the model logs and that ranks configurations in their early epochs as
            the metric does at the end: what stops trials early looks at it.
        FRESH: prefixes of weights that `common.is_restore` may leave at their fresh values, where the
            checkpoint has none of them or of another shape: a loss's, on other data.
        INTENDED_USE: what the exported model is for, what it is given and gives: Markdown for its card.

    Attributes:
        previews: whether to draw pictures; the run says so.
    """

    METRICS: tuple[str, ...] = ()
    SCORES: tuple[str, ...] = ()
    STEADIER: Mapping[str, str] = MappingProxyType({})
    FRESH: tuple[str, ...] = ()
    INTENDED_USE: str = ""
    config: Config
    previews: bool = False
    _preview_failed: bool = False

    def configure_optimizers(self) -> Any:
        """The config's optimizer, without decay on biases and norms, and its schedule if it names one."""
        optimizer = self._build_optimizer()
        section = self.config.lr_scheduler
        if section is None:
            return optimizer
        cls = find_class(section.name, "lr_scheduler", self.config.project)
        options = self._schedule_options(section.options)
        try:
            schedule = cls(optimizer, **options)
        except (TypeError, ValueError) as exc:
            message = f"{section.name} refuses them: {exc}"
            raise ConfigError([self.config.problem("lr_scheduler.options", message)]) from exc
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **section.pl_options}}

    def _build_optimizer(self) -> Optimizer:
        section = self.config.optimizer
        cls = find_class(section.name, "optimizer", self.config.project)
        decay = float(section.options.get("weight_decay", 0.0))
        # timm leaves one-dimensional parameters (biases, norms) out of the decay.
        groups = timm.optim.param_groups_weight_decay(self, weight_decay=decay)
        options = section.options
        # A quarter of the step's time: 0.7 instead of 3.1 ms for LCNet-050 on one core.
        if self._fuses(cls) and not {"fused", "foreach", "differentiable"} & {*options}:
            options = {**options, "fused": True}
        optimizer: Optimizer = cls(groups, **options)
        return optimizer

    def _fuses(self, cls: type[Optimizer]) -> bool:
        """Whether the optimizer has one kernel for its step that Lightning can use: in mixed precision it
        refuses to clip the gradients of such a one."""
        precision = str(self.config.trainer.precision)
        clips_mixed = precision in ("bf16", "bf16-mixed") and self.config.trainer.gradient_clip_val
        refused = precision.startswith("16") or clips_mixed
        return not refused and "fused" in inspect.signature(cls).parameters

    def _schedule_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The schedule's options with -1 filled in from the run's length."""
        filled = dict(options)
        steps = int(self.trainer.estimated_stepping_batches)
        if filled.get("total_iters") == -1:
            filled["total_iters"] = steps
        if filled.get("warmup_iters") == -1:
            filled["warmup_iters"] = int(filled.get("total_iters", steps) * WARMUP_SHARE)
        return filled

    def get_lr(self) -> float:
        """The learning rate of the first parameter group, now."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    @property
    def preview_dir(self) -> Path:
        """`RUN/preview/epoch_NNNN`, made on demand; epochs count from 1, as the run reports them."""
        folder = Path(self.trainer.default_root_dir) / "preview" / f"epoch_{self.current_epoch + 1:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def previewing(self) -> Iterator[None]:
        """Draw and show in here: what fails (a folder that cannot be written) costs pictures, not the run.

        Warns once. Draw no random numbers: a run that looks is to train like one that does not.
        """
        try:
            yield
        except Exception as exc:
            if not self._preview_failed:
                self._preview_failed = True
                text = f"the run goes on without a preview that failed: {type(exc).__name__}: {exc}"
                warnings.warn(f"{text}. Mend it, or set common.preview: false.", stacklevel=3)

    def show(self, name: str, image: NDArray[np.uint8]) -> None:
        """Writes `image` (uint8 [h, w, 3], RGB) as `NAME.png`; TensorBoard has it as `preview/NAME`."""
        if self.trainer.is_global_zero:
            Image.fromarray(image).save(self.preview_dir / f"{name}.png")
            self._log_preview("add_image", name, image, dataformats="HWC")

    def show_text(self, name: str, text: str) -> None:
        """Writes `text` as `NAME.txt`; TensorBoard has it as `preview/NAME`, in a fixed pitch."""
        if self.trainer.is_global_zero:
            (self.preview_dir / f"{name}.txt").write_text(text)
            # TensorBoard reads Markdown: what is indented keeps its columns.
            self._log_preview("add_text", name, textwrap.indent(text, "    "))

    def _log_preview(self, method: str, name: str, content: Any, **options: Any) -> None:
        for logger in self.loggers:
            add = getattr(getattr(logger, "experiment", None), method, None)
            if add is not None:
                add(f"preview/{name}", content, self.global_step, **options)

    def pretend_loss(self, *inputs: torch.Tensor) -> torch.Tensor:
        """A loss of inputs alone: a study tries with it whether each of its models can be trained at all.

        The outputs' sum, unless a model says how to make up labels for its loss.
        """
        outputs = self(*inputs)
        parts = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return torch.stack([part.sum() for part in parts]).sum()

    def exported_batch(self, batch: Any) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
        """(inputs in the order of `onnx.input_names`, labels `[N, ...]`) of a batch of the validation loader.

        A batch is `(images, labels)` unless a model says otherwise.
        """
        images, labels = batch
        return [images], labels

    def score(self, outputs: Any, labels: torch.Tensor) -> dict[str, float]:
        """Metrics of a whole validation set, from the exported wrapper's `Outputs` and the labels."""
        raise NotImplementedError(f"{type(self).__name__} must say how its outputs are scored")

    def score_interval(self, outputs: Any, labels: torch.Tensor, metric: str) -> tuple[float, float] | None:
        """95 % confidence interval of one of the metrics that `score` gives; None: none is known."""
        return None

    def score_details(self) -> dict[str, Any]:
        """What lies behind the last `score`, as plain data for a model's JSON; nothing by default.

        Rows `{fpr, tpr, threshold}` in `roc`, with the numbers `positive_pairs` and `negative_pairs` that
        they rest on, become the card's thresholds.
        """
        return {}

    def example(self, file: str) -> str | None:
        """A program of ten lines at most, for the card: it runs the exported `file` on what `sys.argv` names.

        It prepares the inputs as training did, with no more than onnxruntime, numpy and a reader of images.
        None: the card runs the file on blank inputs.
        """
        return None

    def illustrate(self, outputs: Any, labels: torch.Tensor, dataset: Dataset[Any]) -> dict[str, Any]:
        """What a report shows of a model beside its figures, as plain data; nothing by default.

        Args:
            outputs, labels: as `score` takes them, in the order of
            dataset: what they are of.

        Returns:
            `curves`: each with `title`, `x_title`, `y_title`, `log_x`, numbers `x`, `y`, and a `mark` with
            `x`, `y`, `text`.
            `galleries`: each with `title`, `text` and `rows` of pictures, which have `image` (a `data:` URI),
            `name`, `text` and `kind` (`right`, `wrong` or empty).
        """
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the config, as plain data, beside the weights: a checkpoint is a model."""
        checkpoint["config"] = self.config.to_dict()
        checkpoint["config_name"] = self.config.name
