"""Decide whether rounding alone makes a metric differ between an ONNX file, PyTorch and the training.

That is asked only if the metric does differ. The model then runs over the validation set in float64, whose
outputs count as exact, and once more in the precision of the training if that was lower than the file's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otter_ray.errors import ExportError
from otter_ray.export.reference import (
    ReferenceModel,
    join_batches,
    largest_difference,
    reduced,
    torch_outputs,
)
from otter_ray.train.model.module_mixin import Labels, Run
from otter_ray.train.model.score_range import ScoreRange

# The file's outputs may be this many times as far from the exact ones as PyTorch's in float32 are. Of 42
# models the largest ratio was 1.5: LCNet, MobileNetV3, ResNet and ConvNeXt with two heads, after 1 to 30
# steps in float32 or bfloat16, 56 images each (benchmarks/rounding.py). Other processors add up otherwise.
ROUNDING_FACTOR = 4
# Half the distance from 1 to the next float32.
ROUNDING_UNIT = 2.0**-24


def rounding_range(
    reference: ReferenceModel, loader: DataLoader[Any], file: Run, labels: Labels
) -> ScoreRange | None:
    """Return where the study's metric lies, however the outputs of a validation set are rounded.

    Args:
        reference: The model.
        loader: Gives the validation set's batches.
        file: Runs the ONNX file.
        labels: Of the validation set.

    Returns:
        The range; None if the file's outputs are further from the exact ones than rounding takes them, or if
        there are no exact ones because a layer insists on float32.

    Raises:
        ExportError: The model's `score_range` failed.
    """
    pytorch = partial(torch_outputs, reference.wrapped)
    runs: list[Run] = [_exact(reference), file, pytorch, _low(reference)]
    kept: list[list[Sequence[Tensor]]] = [[] for _ in runs]
    differences: dict[int, list[float]] = {1: [], 2: [ROUNDING_UNIT]}  # of the file's outputs, of PyTorch's
    for batch in loader:
        inputs, label = reference.model.exported_batch(batch)
        exact, *others = [run(inputs) for run in runs]
        if not exact:
            return None
        for number, outputs in enumerate((exact, *others)):
            if outputs:
                kept[number].append(reduced(reference.model, outputs, label))
        for number, distances in differences.items():
            distances.append(largest_difference(others[number - 1], exact))
    if not np.max(differences[1]) <= ROUNDING_FACTOR * np.max(differences[2]):  # NaN is further
        return None
    whole = [join_batches(batches) for batches in kept if len(batches) == len(kept[0])]
    try:
        return reference.model.score_range(whole[0], whole[1:], labels, reference.metric)
    except Exception as exc:  # a project's own code raises anything
        raise ExportError(f"score_range failed: {type(exc).__name__}: {exc}") from exc


def _exact(reference: ReferenceModel) -> Run:
    """Return what runs the model in float64, and gives nothing if a layer refuses that."""
    with suppress(Exception):  # so do a project's layers, in any way
        return partial(_outputs, copy.deepcopy(reference.wrapped).double(), torch.float64)
    return lambda inputs: []


def _low(reference: ReferenceModel) -> Run:
    """Return what runs the model in the precision of its training; it gives nothing if that is float32.

    Nor does it if float16 overflows: infinitely large differences would excuse any metric.
    """

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.autocast("cpu", reference.precision):
            outputs = _outputs(reference.wrapped, torch.float32, inputs)
        return outputs if all(tensor.isfinite().all() for tensor in outputs) else []

    return run if reference.precision != torch.float32 else lambda inputs: []


def _outputs(wrapped: nn.Module, dtype: torch.dtype, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs, as float32, for inputs that are given as `dtype`; nothing if the model fails."""

    def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    # A project's layers refuse another precision than float32's with any exception.
    with suppress(Exception):
        outputs = torch_outputs(wrapped, [cast(tensor, dtype) for tensor in inputs])
        return [cast(tensor, torch.float32) for tensor in outputs]
    return []
