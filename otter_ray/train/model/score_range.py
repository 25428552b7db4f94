"""What rounding can make of a metric: the range that it takes if the model's outputs are rounded differently.

A rate over few images or pairs jumps if one of them crosses a threshold, and outputs that lie close together
cross it by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

# What an exported model returns for `N` items: its only output `[N, ...]`, or all of them in order.
Outputs: TypeAlias = Tensor | tuple[Tensor, ...]

DRAWS = 32


@dataclass(frozen=True)
class ScoreRange:
    """Where a metric lies, however the outputs that it is computed from were rounded.

    Attributes:
        low: The lowest value.
        high: The highest value.
        reason: Why they are apart, as a clause for a message.
    """

    low: float
    high: float
    reason: str

    def holds(self, value: float, tolerance: float) -> bool:
        """Return whether a value is in the range, but for `tolerance`; NaN is not."""
        return self.low - tolerance <= value <= self.high + tolerance


def sampled_range(
    score: Callable[[Outputs], Mapping[str, float]], outputs: Outputs, others: Sequence[Outputs], metric: str
) -> ScoreRange:
    """Estimate the range of any metric: score outputs that are disturbed as much as the others differ.

    Args:
        score: Returns the metrics of some outputs.
        outputs: The exact outputs.
        others: The same, rounded in different ways.
        metric: The name of the metric.
    """
    roundings = [*zip(as_tuple(outputs), *map(as_tuple, others), strict=True)]
    sizes = [
        torch.stack([(tensor.double() - exact.double()).abs().max() for tensor in tensors]).max()
        for exact, *tensors in roundings
    ]
    # No metric need accept a probability that noise has made negative, or larger than 1.
    lowest = [min(float(tensor.min()) for tensor in tensors) for tensors in roundings]
    highest = [max(float(tensor.max()) for tensor in tensors) for tensors in roundings]
    generator = torch.Generator().manual_seed(0)

    def disturbed(tensor: Tensor, size: Tensor, low: float, high: float) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = size * (2 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) - 1)
        return (tensor + noise).clamp(low, high)

    each_output = [*zip(as_tuple(outputs), sizes, lowest, highest, strict=True)]
    draws = (tuple(disturbed(*output) for output in each_output) for _ in range(DRAWS))
    drawn = (draw if isinstance(outputs, tuple) else draw[0] for draw in draws)
    values = [score(each)[metric] for each in (outputs, *others)]
    # A metric that is not defined for a draw says nothing; one that is not defined without noise is no range.
    values += [value for value in (score(each)[metric] for each in drawn) if not math.isnan(value)]
    images, size = len(as_tuple(outputs)[0]), float(max(sizes))
    reason = f"the validation set has {images} images, whose outputs are rounded by up to {size:.1e}"
    return ScoreRange(float(np.min(values)), float(np.max(values)), reason)  # NaN stays NaN


def as_tuple(outputs: Outputs) -> tuple[Tensor, ...]:
    """Return all outputs in order."""
    return outputs if isinstance(outputs, tuple) else (outputs,)
