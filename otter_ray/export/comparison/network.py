"""A network that can be run over a data set: an ONNX file, or the PyTorch model that it is traced from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from otter_ray.config import Config
from otter_ray.errors import ExportError
from otter_ray.export.evaluation import config_of, evaluation_loader, predict, read_run_checkpoint
from otter_ray.export.gate import Predictions
from otter_ray.export.onnx_file import onnx_section, wrap, write_onnx
from otter_ray.export.reference import torch_outputs
from otter_ray.formatting import Interval
from otter_ray.train.builders import load_model_from_config
from otter_ray.train.model.channels import exported_channels
from otter_ray.train.model.module_mixin import BaseMixin, Labels, Run
from otter_ray.train.model.replicates import Replicates


@dataclass(frozen=True)
class Score:
    """What a network came to over a data set.

    Attributes:
        value: The metric.
        interval: Its 95 % interval, if the project knows one.
        replicates: Its values in resamples of the set, if the project knows them.
        labels: Of the items.
        names: Of the classes, if the data set has them.
    """

    value: float
    interval: Interval | None
    replicates: Replicates | None
    labels: Labels
    names: Sequence[str] | None


@dataclass(frozen=True)
class Network:
    """Something that takes the inputs of an exported model and returns its outputs.

    Attributes:
        config: The model's.
        model: It prepares batches and measures outputs.
        run: Returns the outputs.
    """

    config: Config
    model: BaseMixin
    run: Run

    def predict(self, loader: Any) -> Predictions:
        """Return what the model keeps of the outputs over a loader, and the labels."""
        return predict(self.model, self.run, loader)

    def score(self, predictions: Predictions, metric: str, dataset: Any = None) -> Score:
        """Measure what `predict` returned for a data set.

        Raises:
            ExportError: The model does not measure the metric.
        """
        metrics, _ = self.model.measure(self.run, *predictions)
        if metric not in metrics:
            raise ExportError(f"the model scores {', '.join(metrics)}, not {metric}")
        return Score(
            value=metrics[metric],
            interval=self.model.score_interval(*predictions, metric),
            replicates=self.model.score_replicates(*predictions, metric),
            labels=predictions[1],
            names=getattr(dataset, "class_names", None),
        )

    def measure(self, dataset: Any, metric: str, loading: Config | None = None) -> Score:
        """Measure the network over a data set.

        Args:
            dataset: The data set.
            metric: The metric.
            loading: Says how the set is loaded; None for the network's own config.

        Raises:
            ExportError: The model does not measure the metric.
        """
        loader = evaluation_loader(loading or self.config, dataset)
        return self.score(self.predict(loader), metric, dataset)

    def takes_the_same_inputs(self, other: Network) -> bool:
        """Return whether the other network can be run on the same batches."""
        mine, theirs = (_inputs(network.config) for network in (self, other))
        return type(self.model) is type(other.model) and mine == theirs


def onnx_network(path: Path, config: Config, model: BaseMixin) -> Network:
    """Return the network of an ONNX file.

    Args:
        path: The file, which is read now.
        config: The model's.
        model: That it was traced from.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return Network(config, model, partial(run_session, session))


def run_session(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return all outputs of an ONNX file for inputs in the order of its own."""
    names = [about.name for about in session.get_inputs()]
    arrays = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, arrays)]


def checkpoint_network(checkpoint: Path, project: str | None, as_onnx: bool) -> Network:
    """Return the network of a checkpoint, in evaluation mode.

    Args:
        checkpoint: Of a run.
        project: The one that it may import (see `config_of`).
        as_onnx: Whether it is traced to an ONNX file, and that file is run.

    Raises:
        OtterError: otter_ray did not write the checkpoint, or it cannot be traced.
    """
    config = config_of(read_run_checkpoint(checkpoint), checkpoint, project)
    model = load_model_from_config(config, checkpoint)
    wrapped = wrap(config, model)
    if not as_onnx:
        return Network(config, model, partial(torch_outputs, wrapped))
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(config, wrapped, path)
        return onnx_network(path, config, model)


def same_labels(first: Labels, second: Labels) -> bool:
    """Return whether two sets have the same labels in the same order."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.is_floating_point() and first.dtype == second.dtype and first.shape == second.shape:
            return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)  # no label may be NaN
        return torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_labels(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same_labels, first, second))
    return type(first) is type(second) and bool(first == second)


def _inputs(config: Config) -> tuple[Any, ...]:
    section = onnx_section(config)
    shapes = [
        (section.input_shape[name].shape[1:], section.input_shape[name].dtype) for name in section.input_names
    ]
    return section.input_names, shapes, exported_channels(config)
