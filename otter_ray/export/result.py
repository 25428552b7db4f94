"""What an export comes to: the file, and what the gate measured of it. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from otter_ray.export.model_files import read_facts
from otter_ray.formatting import Interval, announcement, with_interval

UNIT = "images"  # what a data set's items are unless it says otherwise


@dataclass(frozen=True)
class HoldoutScore:
    """What was measured on the test split, after everything had been selected: the figure to quote.

    Attributes:
        metrics: As in `GateResult`, as are the next two.
        interval: 95 % interval of the study's metric.
        images: Number of items that were run.
        classes: As in `Holdout`, as are the next two.
        kept_out: Whether training left these images out.
        earlier: Dates of earlier tests.
        details: As in `GateResult`; empty if an earlier version wrote it.
        unit: What the items are.
        unmeasured: As in `GateResult`.
    """

    metrics: dict[str, float]
    interval: Interval | None
    images: int
    classes: int | None
    kept_out: bool
    earlier: list[str]
    details: dict[str, Any] = field(default_factory=dict)
    unit: str = UNIT
    unmeasured: str = ""


@dataclass(frozen=True)
class GateResult:
    """What the gate measured of a file that passed it.

    Attributes:
        opset: The file's opset.
        batches: Batch sizes that were run.
        output_difference: Largest |onnxruntime - PyTorch| / max(1, the image's largest |PyTorch|) over all
            outputs and validation items.
        metrics: Metrics of the ONNX file over the whole validation set.
        interval: 95 % interval of the study's metric, if the project knows one.
        pytorch_metrics: Metrics of the PyTorch model over the same set.
        recorded: What training logged for this checkpoint.
        images: Number of validation items that were run.
        details: What the metrics of the ONNX file rest on, such as the ROC table.
        metric: The study's metric.
        test: What was measured on the test split, if there is one.
        rounding: A sentence about the metric, if it differs from PyTorch's or the training's by rounding.
        unmeasured: Why the metrics are the PyTorch model's, and what to change; empty if they are the file's.
        unit: What the items are, as the data set says (`unit`).
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
    rounding: str = ""
    unmeasured: str = ""
    unit: str = UNIT

    def __str__(self) -> str:
        intervals = {self.metric: self.interval}
        metrics = ", ".join(
            f"{name} {with_interval(value, intervals.get(name), 6)}" for name, value in self.metrics.items()
        )
        return (
            f"gate passed: opset {self.opset}, batches {', '.join(map(str, self.batches))}, "
            f"outputs within {self.output_difference:.1e} of PyTorch; "
            f"{self.unmeasured or 'on the ONNX file'} over {self.images} "
            f"validation {self.unit}{', which the search selected on' if self.test else ''}: {metrics} "
            f"(training logged {self.recorded:.6f}){self.rounding and '; ' + self.rounding}"
        )

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> GateResult:
        """Return the result that `asdict` made a dict of."""
        return cls(**{**facts, "test": HoldoutScore(**facts["test"]) if facts.get("test") else None})

    @classmethod
    def can_read(cls, facts: Mapping[str, Any]) -> bool:
        """Return whether `from_dict` accepts the dict: other versions may have written more or less."""
        needed = {each.name for each in fields(cls) if each.default is MISSING}
        return needed <= facts.keys() <= {each.name for each in fields(cls)}

    def announcement(self) -> str | None:
        """Return the sentence to quote about the test split, if there is one."""
        return announcement(asdict(self.test), self.metric) if self.test else None


@dataclass(frozen=True)
class Exported:
    """An ONNX file that passed the gate.

    Attributes:
        onnx: The file.
        json: The JSON next to it.
        gate: What the gate measured.
        illustrate: Returns what a report shows of the model (`BaseMixin.illustrate`).
        is_earlier: Whether the file existed before.
        predictions: The file's for the validation set (`evaluation.packed`); empty if they are not kept.
    """

    onnx: Path
    json: Path
    gate: GateResult
    illustrate: Callable[[], dict[str, Any]]
    is_earlier: bool = False
    predictions: bytes = field(default=b"", repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return read_facts(self.onnx) or {}
