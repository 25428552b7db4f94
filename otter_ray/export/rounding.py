"""Decide whether rounding alone makes a metric differ between an ONNX file, PyTorch and the training.

That is asked only if the metric does differ. The model then runs over the validation set in float64, whose
outputs count as exact, and once more in the precision of the training if that was lower than the file's.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from otter_ray.errors import ExportError
from otter_ray.export.reference import ReferenceModel, join_batches, largest_difference, torch_outputs
from otter_ray.train.model.module_mixin import Labels
from otter_ray.train.model.score_range import Outputs, ScoreRange, as_tuple

# The file's outputs may be this many times as far from the exact ones as PyTorch's in float32 are. Of 42
# models the largest ratio was 1.5: LCNet, MobileNetV3, ResNet and ConvNeXt with two heads, after 1 to 30
# steps in float32 or bfloat16, 56 images each (benchmarks/rounding.py). Other processors add up otherwise.
ROUNDING_FACTOR = 4
# Half the distance from 1 to the next float32.
ROUNDING_UNIT = 2.0**-24


def rounding_range(
    reference: ReferenceModel, loader: DataLoader[Any], file: Outputs, pytorch: Outputs, labels: Labels
) -> ScoreRange | None:
    """Return where the study's metric lies, however the outputs of a validation set are rounded.

    Args:
        reference: The model.
        loader: Gives the validation set's batches.
        file: The ONNX file's outputs.
        pytorch: The model's own, in float32.
        labels: Of the validation set.

    Returns:
        The range; None if the file's outputs are further from the exact ones than rounding takes them, or if
        there are no exact ones because a layer insists on float32.

    Raises:
        ExportError: The model's `score_range` failed.
    """
    exact = _outputs(reference, loader, torch.float64)
    if exact is None:
        return None
    distance = max(largest_difference(pytorch, exact), ROUNDING_UNIT)
    if not largest_difference(file, exact) <= ROUNDING_FACTOR * distance:
        return None
    others = [file, pytorch]
    if reference.precision != torch.float32:
        with torch.autocast("cpu", reference.precision):
            low = _outputs(reference, loader, torch.float32)
        # float16 overflows, and infinitely large differences would excuse any metric.
        if low is not None and all(tensor.isfinite().all() for tensor in as_tuple(low)):
            others.append(low)
    try:
        return reference.model.score_range(exact, others, labels, reference.metric)
    except Exception as exc:  # a project's own code raises anything
        raise ExportError(f"score_range failed: {type(exc).__name__}: {exc}") from exc


def _outputs(reference: ReferenceModel, loader: DataLoader[Any], dtype: torch.dtype) -> Outputs | None:
    """Return the outputs, as float32, for inputs that are given as `dtype`; None if the model fails."""

    def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    batches = (reference.model.exported_batch(batch)[0] for batch in loader)
    # A project's layers refuse another precision than float32's with any exception.
    with suppress(Exception):
        wrapped = copy.deepcopy(reference.wrapped).double() if dtype == torch.float64 else reference.wrapped
        outputs = (torch_outputs(wrapped, [cast(tensor, dtype) for tensor in inputs]) for inputs in batches)
        return join_batches([[cast(tensor, torch.float32) for tensor in each] for each in outputs])
    return None
