"""Evaluate a checkpoint's PyTorch model over its validation set, as the gate does for an ONNX file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from otter_ray.config import Config, is_trusted
from otter_ray.cpus import available_cpus
from otter_ray.errors import ExportError
from otter_ray.export.gate import Predictions
from otter_ray.export.onnx_file import wrap
from otter_ray.export.reference import join_batches, join_labels, reduced, torch_outputs
from otter_ray.files import is_name
from otter_ray.formatting import Interval
from otter_ray.train.builders import build_dataloader, build_valid, load_model_from_config
from otter_ray.train.loader_options import with_objects
from otter_ray.train.model.module_mixin import BaseMixin, Run
from otter_ray.train.registry import by_project

# What a checkpoint of otter_ray holds in addition to Lightning's own entries.
REQUIRED_KEYS = ("config", "config_name", "metric", "metrics", "state_dict")
# Predictions that take more memory than this are not kept, but computed again.
MAX_PACKED = 2**26


@dataclass(frozen=True)
class Measured:
    """A checkpoint's model, measured over its whole validation set.

    Attributes:
        value: Its metric.
        interval: 95 % interval of the metric, if the project knows one.
        illustrate: Returns what a report shows of the model (`BaseMixin.illustrate`).
    """

    value: float
    interval: Interval | None
    illustrate: Callable[[], dict[str, Any]]


def measure_checkpoint(checkpoint: Path, project: str | None = None) -> Measured:
    """Measure a checkpoint that is not exported, on the PyTorch model.

    Args:
        checkpoint: The checkpoint.
        project: The one that it may import (see `config_of`).

    Raises:
        OtterError: otter_ray did not write the checkpoint, or its data cannot be used.
    """
    record, model, valid, predictions, run = _predict(checkpoint, project)
    metric = record["metric"]
    metrics, _ = model.measure(run, *predictions)
    value, interval = metrics[metric], model.score_interval(*predictions, metric)
    return Measured(value, interval, lambda: model.illustrate(*predictions, valid))


def illustrate_checkpoint(checkpoint: Path, project: str | None = None) -> dict[str, Any]:
    """Return what a report shows of a checkpoint's model. Raises as `measure_checkpoint` does.

    Args:
        checkpoint: The checkpoint.
        project: The one that it may import (see `config_of`).
    """
    _, model, valid, predictions, _ = _predict(checkpoint, project)
    return model.illustrate(*predictions, valid)


def read_run_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint that a run of otter_ray wrote.

    Raises:
        ExportError: It is no checkpoint, or somebody else wrote it.
    """
    try:
        record: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        raise ExportError(f"{checkpoint} cannot be read as a checkpoint: {str(exc).splitlines()[0]}") from exc
    missing = [key for key in REQUIRED_KEYS if not isinstance(record, dict) or key not in record]
    if missing:
        raise ExportError(
            f"{checkpoint} was not written by otter_ray: it lacks {', '.join(missing)}. "
            "Train with python -m otter_ray.train, then export the run."
        )
    return record


def config_of(record: Mapping[str, Any], checkpoint: Path, project: str | None = None) -> Config:
    """Return the config that a checkpoint was trained with, if its project may be imported.

    A checkpoint is plain data, and anybody may have written it. The project that its config names is code.

    Args:
        record: Of the checkpoint.
        checkpoint: Where it is.
        project: That the user's own config or command names. Without it, only projects that come with
            otter_ray are imported.

    Raises:
        ConfigError: The config is not valid.
        ExportError: It names another project, or its own name cannot be a file's.
    """
    name = record["config_name"]
    if not (isinstance(name, str) and is_name(name)):
        raise ExportError(
            f"{checkpoint}: its config_name {str(name)[:80]!r} is not a file name. Somebody has changed it. "
            "Export a checkpoint that otter_ray wrote."
        )
    config = Config.from_dict(record["config"], name)
    if is_trusted(config.code, project):
        return config
    others = f"the current config names {project!r}" if project else "no config here names it"
    command = shlex.join(["python", "-m", "otter_ray.export", str(checkpoint), "--project", config.code])
    raise ExportError(
        f"{checkpoint}: its config names the project {config.code!r}, whose code would run, and {others}. "
        f"If you trust that code: {command}"
    )


@by_project
def evaluation_loader(config: Config, dataset: Dataset[Any]) -> DataLoader[Any]:
    """Return a loader that gives every item of a data set once, in order."""
    options = {**with_objects(config, "valid_options", dataset), "shuffle": False, "drop_last": False}
    return build_dataloader(dataset, options, config.common.batch_size, available_cpus())


def predict(model: BaseMixin, run: Run, loader: Iterable[Any]) -> Predictions:
    """Return what a model keeps of the outputs over a loader, and the labels.

    Args:
        model: It prepares batches.
        run: Returns the outputs for the inputs of a batch.
        loader: Gives the batches.
    """
    outputs, labels = [], []
    for batch in loader:
        inputs, label = model.exported_batch(batch)
        outputs.append(reduced(model, run(inputs), label))
        labels.append(label)
    return join_batches(outputs), join_labels(labels)


def packed(predictions: Predictions) -> bytes:
    """Return predictions as bytes, which need no torch to be held; none if too large or no plain data."""
    if _size(predictions) > MAX_PACKED:
        return b""
    file = BytesIO()
    torch.save(predictions, file)
    return file.getvalue()


def unpacked(content: bytes) -> Predictions | None:
    """Return the predictions that `packed` was given; None if it kept none."""
    if not content:
        return None
    outputs, labels = torch.load(BytesIO(content), weights_only=True)
    return outputs, labels


def _size(value: object) -> float:
    """Return the bytes of tensors and texts; infinite for labels of a project's own class."""
    kind = type(value)
    if isinstance(value, Tensor):
        return value.nbytes if kind is Tensor and value.layout is torch.strided else math.inf
    if isinstance(value, dict) and kind is dict:
        return sum(map(_size, [*value.keys(), *value.values()]))
    if isinstance(value, list | tuple) and kind in (list, tuple):
        return sum(map(_size, value))
    if isinstance(value, str) and kind is str:
        return 4 * len(value)
    return 8 if kind in (bool, int, float, type(None)) else math.inf


def _predict(
    checkpoint: Path, project: str | None
) -> tuple[dict[str, Any], BaseMixin, Dataset[Any], Predictions, Run]:
    """Return the checkpoint's content, its model, the validation set, its predictions, and what gave them."""
    record = read_run_checkpoint(checkpoint)
    config = config_of(record, checkpoint, project)
    model = load_model_from_config(config, checkpoint)
    run, valid = partial(torch_outputs, wrap(config, model)), build_valid(config)
    return record, model, valid, predict(model, run, evaluation_loader(config, valid)), run
