"""Figures of a model that are known before it is trained, and constraints on them: `macs <= 50e6`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otter_ray.errors import did_you_mean

# What a figure says, of the model that is exported, for one input.
FIGURES = {
    "macs": "multiply-accumulates of one forward pass",
    "flops": "floating-point operations of one forward pass",
    "parameters": "numbers that are trained",
    "onnx_bytes": "size of the ONNX file",
    "onnx_latency_ms": "median time of one input in onnxruntime, on one thread of this machine's CPU",
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RULE = re.compile(rf"\s*([\w@]+)\s*(<=|>=)\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class Constraint:
    """`figure <= bound`, or `>=` where `is_floor`.

    Attributes:
        text: as it is written in the space's file.
    """

    text: str
    figure: str
    is_floor: bool
    bound: float

    @classmethod
    def of(cls, text: str) -> Constraint:
        """The constraint that a text states.

        Raises:
            ValueError: it states none, or one on a figure that nobody knows; says what may be written.
        """
        if (found := _RULE.fullmatch(text)) is None:
            raise ValueError(f"{text!r} is no constraint. Write a figure, <= or >=, a number: macs <= 50e6.")
        figure, sign, number = found.groups()
        if figure not in FIGURES:
            hint = did_you_mean(figure, FIGURES)
            known = f"Known before a training are {', '.join(FIGURES)}."
            raise ValueError(f"{figure!r} in {text!r} is no figure of a model.{hint} {known}")
        return cls(text.strip(), figure, sign == ">=", float(number))

    def excess(self, figures: Mapping[str, float]) -> float:
        """By what share of the bound the figure is beyond it; 0 or less: it holds."""
        beyond = figures[self.figure] - self.bound
        return (-beyond if self.is_floor else beyond) / (abs(self.bound) or 1.0)
