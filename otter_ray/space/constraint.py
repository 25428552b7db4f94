"""Statistics of a model that are known before it is trained, and constraints on them: `macs <= 50e6`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otter_ray.errors import did_you_mean
from otter_ray.formatting import LOWER_PRECISIONS

# What each statistic says, of the model that is exported, for one input.
SIZE, LATENCY = "onnx_bytes", "onnx_latency_ms"
FILE_STATS = {
    SIZE: "size of the ONNX file",
    LATENCY: "median time of one input in onnxruntime, on one thread of this machine's CPU",
}
MODEL_STATS = {
    "macs": "multiply-accumulates of one forward pass",
    "flops": "floating-point operations of one forward pass",
    "parameters": "numbers that are trained",
    **FILE_STATS,
    **{
        f"{name}@{precision}": f"the same of the {precision} file: {text}"
        for name, text in FILE_STATS.items()
        for precision in LOWER_PRECISIONS
    },
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RULE = re.compile(rf"\s*([\w@]+)\s*(<=|>=)\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a model statistic.

    Attributes:
        text: As it is written in the space's file.
        stat: Name of the statistic.
        is_floor: Whether the statistic must be at least the bound; else it must be at most the bound.
        bound: The number.
    """

    text: str
    stat: str
    is_floor: bool
    bound: float

    @classmethod
    def of(cls, text: str) -> Constraint:
        """Parse a constraint.

        Raises:
            ValueError: The text is not a constraint on a model statistic. The error says what may be written.
        """
        if (found := _RULE.fullmatch(text)) is None:
            form = "Write a model figure, <= or >= and a number, for example macs <= 50e6."
            raise ValueError(f"{text!r} is not a constraint. {form}")
        stat, sign, number = found.groups()
        if stat not in MODEL_STATS:
            hint = did_you_mean(stat, MODEL_STATS)
            available = f"Available: {', '.join(MODEL_STATS)}."
            raise ValueError(f"{stat!r} in {text!r} is not a model figure.{hint} {available}")
        return cls(text.strip(), stat, sign == ">=", float(number))

    def excess(self, stats: Mapping[str, float]) -> float:
        """Return by what share of the bound the statistic violates it; 0 or less: it holds."""
        beyond = stats[self.stat] - self.bound
        return (-beyond if self.is_floor else beyond) / (abs(self.bound) or 1.0)
