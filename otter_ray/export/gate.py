"""The verification gate: an ONNX file is handed out only after it has been run and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from otter_ray.errors import ExportError, OtterError, in_one_line
from otter_ray.export.onnx_file import onnx_section, opset_of
from otter_ray.export.reference import (
    ReferenceModel,
    difference,
    join_batches,
    join_labels,
    largest_difference,
    reduced,
    torch_outputs,
)
from otter_ray.export.result import UNIT, GateResult, HoldoutScore
from otter_ray.export.rounding import rounding_range
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.train.model.module_mixin import BaseMixin, Labels, Run
from otter_ray.train.model.score_range import Outputs

BATCHES = (1, 2, 7)
# Largest difference of one output value between onnxruntime and PyTorch, both in float32 on the CPU, in
# units of the image's largest value if that is above 1: float32 has seven digits, not seven decimals.
OUTPUT_TOLERANCE = 1e-4
# Largest difference of the metric that is not looked into. A metric that counts pairs beyond a threshold may
# differ by more if there are few pairs: then `rounding_range` says what rounding can do. If the model asks
# for it (`BaseMixin.HAS_ANY_SCALE`), it is a share of a metric above 1.
METRIC_TOLERANCE = 1e-3
# The same, compared with what training logged in a lower precision than the file's float32.
LOW_PRECISION_TOLERANCE = 2e-2
# A model's outputs over a validation set, and the labels there.
Predictions = tuple[Outputs, Labels]


@dataclass(frozen=True)
class Holdout:
    """Images by which nothing was selected.

    Attributes:
        loader: Gives their batches `(images, labels)`.
        classes: How many classes there are; None if the data set does not say.
        kept_out: Whether they are the images that the checkpoint's own training left out.
        earlier: Dates of the other exports in the folder that were tested.
        unit: What the items are.
    """

    loader: DataLoader[Any]
    classes: int | None
    kept_out: bool
    earlier: list[str]
    unit: str = UNIT


class _Validation(NamedTuple):
    """Both models, run over a data set.

    Attributes:
        ours: What the model keeps of onnxruntime's outputs (`BaseMixin.reduce_outputs`).
        theirs: The same of PyTorch's.
        labels: The labels.
        images: How many images there were.
        difference: The largest difference of the outputs, whether they are kept or not.
    """

    ours: Outputs
    theirs: Outputs
    labels: Labels
    images: int
    difference: float


def pass_gate(
    path: Path, reference: ReferenceModel, valid: DataLoader[Any], test: Holdout | None = None
) -> tuple[GateResult, Predictions]:
    """Verify the file at `path`. Only a file that has passed is run on the test split.

    Args:
        path: The ONNX file.
        reference: The model that it was traced from.
        valid: Gives the validation set's batches.
        test: The test split, if there is one.

    Returns:
        What was measured, and the file's predictions for the validation set.

    Raises:
        ExportError: A check failed; the message names it, with its figures.
    """
    loaded = onnx.load(str(path))
    try:
        onnx.checker.check_model(loaded, full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnx and onnxruntime have no common base for their errors
        raise ExportError(f"{path.name} is not a valid ONNX file: {exc}") from exc
    differences = [_run_batch(session, reference, batch) for batch in BATCHES]
    ours, theirs, labels, images, largest = _run_validation(session, reference, valid)
    largest = float(np.max([largest, *differences]))  # NaN stays NaN
    if not largest <= OUTPUT_TOLERANCE:
        raise ExportError(
            f"{path.name} differs from the PyTorch model by {largest:.2e}, more than "
            f"{OUTPUT_TOLERANCE:g}. An operator computes something else in ONNX, or depends on the batch; "
            "see docs/how-to/troubleshooting.md"
        )
    model, run = reference.model, partial(_onnx_tensors, session, reference)
    pytorch_metrics, _ = _measure(model, partial(torch_outputs, reference.wrapped), theirs, labels)
    metrics, unmeasured = _measure(model, run, ours, labels)
    if reference.metric not in metrics:
        raise ExportError(f"the model scores {', '.join(metrics)}, not {reference.metric}")
    interval = reference.model.score_interval(ours, labels, reference.metric)
    gate = GateResult(
        opset=opset_of(loaded),
        batches=BATCHES,
        output_difference=largest,
        metrics=metrics,
        interval=interval,
        pytorch_metrics=pytorch_metrics,
        recorded=reference.recorded,
        images=images,
        details=reference.model.score_details(),
        metric=reference.metric,
        unmeasured=unmeasured,
    )
    if _differing(gate, reference, labels):
        gate = replace(gate, rounding=_explained(gate, reference, valid, run, labels))
    gate = gate if test is None else replace(gate, test=_run_test(session, reference, test))
    return gate, (ours, labels)


def _measure(model: BaseMixin, run: Run, outputs: Outputs, labels: Labels) -> tuple[dict[str, float], str]:
    """Return what `BaseMixin.measure` returns.

    Raises:
        ExportError: It failed.
    """
    try:
        return model.measure(run, outputs, labels)
    except OtterError:
        raise
    except Exception as exc:  # a project's own code raises anything
        raise ExportError(f"measuring the model failed: {in_one_line(exc)}") from exc


def _run_test(
    session: onnxruntime.InferenceSession, reference: ReferenceModel, test: Holdout
) -> HoldoutScore:
    seen = _run_validation(session, reference, test.loader)
    run = partial(_onnx_tensors, session, reference)
    metrics, unmeasured = _measure(reference.model, run, seen.ours, seen.labels)
    return HoldoutScore(
        metrics=metrics,
        interval=reference.model.score_interval(seen.ours, seen.labels, reference.metric),
        images=seen.images,
        classes=test.classes,
        kept_out=test.kept_out,
        earlier=test.earlier,
        details=reference.model.score_details(),
        unit=test.unit,
        unmeasured=unmeasured,
    )


def _run_batch(session: onnxruntime.InferenceSession, reference: ReferenceModel, batch: int) -> float:
    """Run noise of one batch size through both models, and return the largest difference."""
    section = onnx_section(reference.config)
    inputs = model_inputs(reference.config, batch)
    outputs = [output.numpy() for output in _onnx_tensors(session, reference, inputs)]
    expected = torch_outputs(reference.wrapped, inputs)
    for name, output in zip(section.output_names, outputs, strict=True):
        if len(output) != batch:
            raise ExportError(f"output {name!r} has {len(output)} rows for a batch of {batch}")
    return float(np.max([difference(*pair) for pair in zip(outputs, expected, strict=True)]))


def _run_validation(
    session: onnxruntime.InferenceSession, reference: ReferenceModel, loader: DataLoader[Any]
) -> _Validation:
    model = reference.model
    ours, theirs, labels, images, differences = [], [], [], 0, [0.0]
    for batch in loader:
        inputs, label = model.exported_batch(batch)
        outputs = _onnx_tensors(session, reference, inputs)
        expected = torch_outputs(reference.wrapped, inputs)
        differences.append(largest_difference(outputs, expected))
        ours.append(reduced(model, outputs, label))
        theirs.append(reduced(model, expected, label))
        labels.append(label)
        images += len(inputs[0])
    largest = float(np.max(differences))  # NaN stays NaN
    return _Validation(join_batches(ours), join_batches(theirs), join_labels(labels), images, largest)


def _onnx_tensors(
    session: onnxruntime.InferenceSession, reference: ReferenceModel, inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Return all outputs of the file for inputs as `exported_batch` gives them."""
    names = onnx_section(reference.config).input_names
    arrays = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in _onnx_outputs(session, arrays)]


def _onnx_outputs(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return all outputs, in the order of the config's `output_names`, which the file keeps."""
    try:
        outputs: list[np.ndarray] = session.run(None, inputs)
    except Exception as exc:  # onnxruntime's errors have no base of their own
        batch = len(next(iter(inputs.values())))
        raise ExportError(f"the file does not run with a batch of {batch}: {exc}") from exc
    return outputs


def _differing(gate: GateResult, reference: ReferenceModel, labels: Labels) -> dict[str, tuple[float, float]]:
    """Return the references that the file's metric differs from: whose it is -> (value, tolerance)."""
    # Half a step more, because a share of three images is no number of binary digits.
    step = 1.5 * reference.model.score_step(labels, gate.metric)
    full = reference.precision == torch.float32
    references = {
        "the PyTorch model's": (gate.pytorch_metrics[gate.metric], max(METRIC_TOLERANCE, step)),
        "the checkpoint's": (gate.recorded, max(METRIC_TOLERANCE if full else LOW_PRECISION_TOLERANCE, step)),
    }
    if reference.model.HAS_ANY_SCALE:
        references = {
            whose: (value, tolerance * max(1.0, abs(value)) if math.isfinite(value) else tolerance)
            for whose, (value, tolerance) in references.items()
        }
    measured = gate.metrics[gate.metric]
    return {
        whose: (value, tolerance)
        for whose, (value, tolerance) in references.items()
        if not (math.isfinite(value) and abs(measured - value) <= tolerance)  # NaN differs
    }


def _explained(
    gate: GateResult,
    reference: ReferenceModel,
    valid: DataLoader[Any],
    run: Run,
    labels: Labels,
) -> str:
    """Return how rounding explains that the metric differs.

    Raises:
        ExportError: It does not.
    """
    metric, found = gate.metric, rounding_range(reference, valid, run, labels)
    for whose, (value, tolerance) in _differing(gate, reference, labels).items():
        if found is None or not math.isfinite(value) or not found.holds(value, tolerance):
            explained = found and f", and rounding explains {found.low:.6f} to {found.high:.6f}"
            raise ExportError(
                f"{metric} measured on the ONNX file is {gate.metrics[metric]:.6f}, "
                f"{whose} is {value:.6f}: they differ by more than {tolerance:g}{explained or ''}"
            )
    assert found is not None
    return f"rounding decides {metric} between {found.low:.4g} and {found.high:.4g}: {found.reason}"
