"""The PyTorch model that an ONNX file is compared with, and how far the outputs of the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otter_ray.config import Config
from otter_ray.errors import ExportError, OtterError, in_one_line
from otter_ray.train.model.module_mixin import BaseMixin, Labels
from otter_ray.train.model.score_range import Outputs, as_tuple

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ReferenceModel:
    """The PyTorch model that an ONNX file is compared with.

    Attributes:
        config: Its config.
        model: The trained model; its `score(outputs, labels)` returns the metrics of a validation set.
        wrapped: The part of it that the file was traced from.
        metric: The study's metric.
        recorded: What training logged for this checkpoint.
        precision: The type in which products were computed when that was measured.
    """

    config: Config
    model: BaseMixin
    wrapped: nn.Module
    metric: str
    recorded: float
    precision: torch.dtype


def scored_in(record: Mapping[str, Any], precision: object) -> torch.dtype:
    """Return the type in which products were computed when a checkpoint's metrics were measured.

    Args:
        record: The checkpoint.
        precision: The Trainer's.
    """
    if (known := PRECISIONS.get(str(record.get("scored_in")))) is not None:
        return known
    # Version 0.1 validated in the precision of the training, and kept the device alone.
    if record.get("device", "cpu") == "cpu" and str(precision) in ("None", "32", "32-true", "64", "64-true"):
        return torch.float32
    # On a GPU even float32 is TensorFloat-32 in a convolution: it has the digits of float16.
    return torch.bfloat16 if str(precision).startswith("bf16") else torch.float16


def torch_outputs(wrapped: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return all outputs of the PyTorch model."""
    with torch.inference_mode():
        outputs = wrapped(*inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def reduced(model: BaseMixin, outputs: Sequence[Tensor], labels: Labels) -> tuple[Tensor, ...]:
    """Return what the model keeps of one batch's outputs.

    Raises:
        ExportError: Its `reduce_outputs` failed.
    """
    try:
        return as_tuple(model.reduce_outputs(join_batches([outputs]), labels))
    except OtterError:
        raise
    except Exception as exc:  # a project's own code raises anything
        raise ExportError(f"reduce_outputs failed: {in_one_line(exc)}") from exc


def join_batches(batches: Sequence[Sequence[Tensor]]) -> Outputs:
    """Join the outputs of batches for `BaseMixin.score`: a tuple, or a model's only output by itself."""
    outputs = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    return outputs[0] if len(outputs) == 1 else outputs


def join_labels(batches: Sequence[Labels]) -> Labels:
    """Join the labels of batches: tensors, or tuples, lists and dicts of them."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat([*batches])
    if isinstance(first, Mapping):
        return {key: join_labels([batch[key] for batch in batches]) for key in first}
    if first and isinstance(first[0], Tensor | Mapping | tuple | list):
        return tuple(join_labels(parts) for parts in zip(*batches, strict=True))
    # Texts, which are collated to a list of them.
    return [item for batch in batches for item in batch]


def largest_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest `difference` of all outputs."""
    pairs = zip(outputs, expected, strict=True)
    return float(np.max([difference(output.numpy(), tensor) for output, tensor in pairs]))  # NaN stays NaN


def difference(output: np.ndarray, tensor: Tensor) -> float:
    """Return the largest |output - tensor|, in units of the image's largest |tensor| if that is above 1.

    Raises:
        ExportError: Their shapes differ.
    """
    if output.shape != tuple(tensor.shape):
        raise ExportError(f"the file gives {list(output.shape)} where PyTorch gives {list(tensor.shape)}")
    expected = tensor.numpy().reshape(len(output), -1)
    scale = np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    return float((np.abs(output.reshape(expected.shape) - expected) / scale).max())
