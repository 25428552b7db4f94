"""The gate: an ONNX file is handed out only after it has been run and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otter_ray.config import Config
from otter_ray.errors import ExportError
from otter_ray.export.onnx_file import example_inputs, onnx_section, opset_of
from otter_ray.figures import Interval, announcement, with_interval
from otter_ray.train.mixin import BaseMixin, Outputs

BATCHES = (1, 2, 7)
# Largest difference of one output value between onnxruntime and PyTorch, both in float32 on the CPU, in
# units of the image's largest value where that is above 1: float32 has seven digits, not seven decimals.
OUTPUT_TOLERANCE = 1e-4
# Of the metric. It counts pairs beyond a threshold: rounding may move a pair across, but not many.
METRIC_TOLERANCE = 1e-3
# The same against what training logged in a lower precision than the file's float32.
LOW_PRECISION_TOLERANCE = 2e-2
# A model's outputs over a validation set, and the labels there.
Seen = tuple[Outputs, Tensor]


@dataclass(frozen=True)
class Candidate:
    """What an ONNX file is held against.

    Attributes:
        model: the trained model; its `score(outputs, labels)` gives the metrics of a validation set.
        wrapped: the part of it that the file was traced from.
        metric, recorded: the study's metric, and what training logged for this checkpoint.
        device: that it was trained on, `cpu` or `cuda`.
    """

    config: Config
    model: BaseMixin
    wrapped: nn.Module
    metric: str
    recorded: float
    device: str


@dataclass(frozen=True)
class Holdout:
    """Images that nothing was selected on.

    Attributes:
        loader: gives their batches `(images, labels)`.
        classes: how many there are, None where the data set does not say.
        kept_out: whether they are those that the checkpoint's own training left out.
        earlier: dates of the exports beside this one that were tested, too.
    """

    loader: DataLoader[Any]
    classes: int | None
    kept_out: bool
    earlier: list[str]


@dataclass(frozen=True)
class HoldoutScore:
    """What the ONNX file gives on the test split, after everything was chosen: the figure to announce.

    Attributes:
        metrics, interval, images: as in `Gate`.
        classes, kept_out, earlier: as in `Holdout`.
        details: as in `Gate`; empty in what an earlier version wrote.
    """

    metrics: dict[str, float]
    interval: Interval | None
    images: int
    classes: int | None
    kept_out: bool
    earlier: list[str]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """What the gate found.

    Attributes:
        opset: of the file.
        batches: sizes that were really run.
        output_difference: largest |onnxruntime - PyTorch| / max(1, the image's largest |PyTorch|) over all
            outputs and validation images.
        metrics: measured on the ONNX file over the whole validation set.
        interval: 95 % interval of the study's metric on it, where the project knows one.
        pytorch_metrics: the same on the PyTorch model.
        recorded: what training logged for this checkpoint.
        images: validation images that were run.
        details: what lies behind the metrics on the ONNX file, such as the ROC table.
        metric: the study's.
        test: on the test split, where there is one.
    """

    opset: int
    batches: tuple[int, ...]
    output_difference: float
    metrics: dict[str, float]
    interval: Interval | None
    pytorch_metrics: dict[str, float]
    recorded: float
    images: int
    details: dict[str, Any]
    metric: str
    test: HoldoutScore | None = None

    def __str__(self) -> str:
        intervals = {self.metric: self.interval}
        metrics = ", ".join(
            f"{name} {with_interval(value, intervals.get(name), 6)}" for name, value in self.metrics.items()
        )
        return (
            f"gate passed: opset {self.opset}, batches {', '.join(map(str, self.batches))}, "
            f"outputs within {self.output_difference:.1e} of PyTorch; on the ONNX file over {self.images} "
            f"validation images{', which the search selected on' if self.test else ''}: {metrics} "
            f"(training logged {self.recorded:.6f})"
        )

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Gate:
        """The gate that `asdict` gave."""
        return cls(**{**facts, "test": HoldoutScore(**facts["test"]) if facts["test"] else None})

    def announcement(self) -> str | None:
        """What the test split says, where there is one."""
        return announcement(asdict(self.test), self.metric) if self.test else None


def pass_gate(
    path: Path, candidate: Candidate, valid: DataLoader[Any], test: Holdout | None = None
) -> tuple[Gate, Seen]:
    """Proves the file at `path`; `valid` gives the validation set's batches.

    The test split is looked at last, and only by a file that has passed.

    Returns:
        What it found, and what the file makes of the validation set.

    Raises:
        ExportError: names the check that failed, with its figures.
    """
    loaded = onnx.load(str(path))
    try:
        onnx.checker.check_model(loaded, full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnx and onnxruntime have no common base for their errors
        raise ExportError(f"{path.name} is not a valid ONNX file: {exc}") from exc
    differences = [_run_batch(session, candidate, batch) for batch in BATCHES]
    ours, theirs, labels, difference = _run_validation(session, candidate, valid)
    difference = float(np.max([difference, *differences]))  # NaN stays NaN
    if not difference <= OUTPUT_TOLERANCE:
        raise ExportError(
            f"{path.name} differs from the PyTorch model by {difference:.2e}, more than {OUTPUT_TOLERANCE:g}"
        )
    pytorch_metrics = candidate.model.score(theirs, labels)
    metrics = candidate.model.score(ours, labels)
    if candidate.metric not in metrics:
        raise ExportError(f"the model scores {', '.join(metrics)}, not {candidate.metric}")
    interval = candidate.model.score_interval(ours, labels, candidate.metric)
    gate = Gate(
        opset=opset_of(loaded),
        batches=BATCHES,
        output_difference=difference,
        metrics=metrics,
        interval=interval,
        pytorch_metrics=pytorch_metrics,
        recorded=candidate.recorded,
        images=len(labels),
        details=candidate.model.score_details(),
        metric=candidate.metric,
    )
    _compare_metric(gate, candidate)
    gate = gate if test is None else replace(gate, test=_run_test(session, candidate, test))
    return gate, (ours, labels)


def _run_test(session: onnxruntime.InferenceSession, candidate: Candidate, test: Holdout) -> HoldoutScore:
    outputs, _, labels, _ = _run_validation(session, candidate, test.loader)
    return HoldoutScore(
        metrics=candidate.model.score(outputs, labels),
        interval=candidate.model.score_interval(outputs, labels, candidate.metric),
        images=len(labels),
        classes=test.classes,
        kept_out=test.kept_out,
        earlier=test.earlier,
        details=candidate.model.score_details(),
    )


def _run_batch(session: onnxruntime.InferenceSession, candidate: Candidate, batch: int) -> float:
    """Runs noise of one batch size through both; gives the largest difference."""
    section = onnx_section(candidate.config)
    inputs = example_inputs(section, batch)
    outputs = _onnx_outputs(session, {name: value.numpy() for name, value in inputs.items()})
    expected = torch_outputs(candidate.wrapped, [*inputs.values()])
    for name, output in zip(section.output_names, outputs, strict=True):
        if len(output) != batch:
            raise ExportError(f"output {name!r} has {len(output)} rows for a batch of {batch}")
    return float(np.max([_difference(*pair) for pair in zip(outputs, expected, strict=True)]))


def _run_validation(
    session: onnxruntime.InferenceSession, candidate: Candidate, loader: DataLoader[Any]
) -> tuple[Outputs, Outputs, Tensor, float]:
    """(onnxruntime's outputs, PyTorch's, labels, largest difference) over the batches of a loader."""
    names = onnx_section(candidate.config).input_names
    ours, theirs, labels = [], [], []
    for batch in loader:
        inputs, label = candidate.model.exported_batch(batch)
        arrays = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        ours.append([torch.from_numpy(output) for output in _onnx_outputs(session, arrays)])
        theirs.append(torch_outputs(candidate.wrapped, inputs))
        labels.append(label)
    first, second = joined(ours), joined(theirs)
    pairs = zip(
        *(outputs if isinstance(outputs, tuple) else (outputs,) for outputs in (first, second)), strict=True
    )
    difference = float(np.max([_difference(output.numpy(), tensor) for output, tensor in pairs]))
    return first, second, torch.cat(labels), difference


def torch_outputs(wrapped: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """All outputs of the PyTorch model."""
    with torch.inference_mode():
        outputs = wrapped(*inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def joined(batches: Sequence[Sequence[Tensor]]) -> Outputs:
    """The outputs of all batches, as `BaseMixin.score` takes them: a model's only one, or a tuple."""
    outputs = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    return outputs[0] if len(outputs) == 1 else outputs


def _onnx_outputs(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, in the order of the config's `output_names`, which the file keeps."""
    try:
        outputs: list[np.ndarray] = session.run(None, inputs)
    except Exception as exc:  # onnxruntime's errors have no base of their own
        batch = len(next(iter(inputs.values())))
        raise ExportError(f"the file does not run with a batch of {batch}: {exc}") from exc
    return outputs


def _difference(output: np.ndarray, tensor: Tensor) -> float:
    if output.shape != tuple(tensor.shape):
        raise ExportError(f"the file gives {list(output.shape)} where PyTorch gives {list(tensor.shape)}")
    expected = tensor.numpy().reshape(len(output), -1)
    scale = np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    return float((np.abs(output.reshape(expected.shape) - expected) / scale).max())


def _compare_metric(gate: Gate, candidate: Candidate) -> None:
    metric = candidate.metric
    precision = str(candidate.config.trainer.precision)
    # On a GPU even float32 is TensorFloat-32 in a convolution.
    full = candidate.device == "cpu" and precision in ("None", "32", "32-true", "64", "64-true")
    references = {
        "the PyTorch model's": (gate.pytorch_metrics[metric], METRIC_TOLERANCE),
        "the checkpoint's": (gate.recorded, METRIC_TOLERANCE if full else LOW_PRECISION_TOLERANCE),
    }
    for whose, (value, tolerance) in references.items():
        if not abs(gate.metrics[metric] - value) <= tolerance:
            raise ExportError(
                f"{metric} measured on the ONNX file is {gate.metrics[metric]:.6f}, "
                f"{whose} is {value:.6f}: they differ by more than {tolerance:g}"
            )
