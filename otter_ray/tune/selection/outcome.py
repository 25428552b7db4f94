"""What a study leaves behind. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from otter_ray.export.result import Exported
from otter_ray.study.trials import TrialRecord


@dataclass(frozen=True)
class Outcome:
    """What a study leaves behind.

    Attributes:
        rows: its trials.
        winner: the best trial, or the best finalist's best run, whose ONNX file passed the gate; None if no
            file did.
        exported: that file.
        rejected: better candidates that gave no model, with the reason.
        tried: the numbers of their trials and of the winner's.
    """

    rows: list[TrialRecord]
    winner: TrialRecord | None
    exported: Exported | None
    rejected: list[str]
    tried: tuple[int, ...] = ()
