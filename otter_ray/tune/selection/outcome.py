"""What a study leaves behind. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otter_ray.export.model_files import write_facts
from otter_ray.export.result import Exported
from otter_ray.study.schema import CHECKPOINT, REJECTED, TRIAL, WINNER
from otter_ray.study.trials import TrialRecord
from otter_ray.tune.context import StudyContext


@dataclass(frozen=True)
class Outcome:
    """What a study leaves behind.

    Attributes:
        rows: its trials.
        winner: the best trial, or the best finalist's best run, whose ONNX file passed the gate; None if no
            file did.
        exported: that file.
        rejected: better candidates that gave no model, and what could not be made or measured, each with the
            reason.
        tried: the numbers of their trials and of the winner's.
        is_finalist: whether the winner is a finalist's run.
    """

    rows: list[TrialRecord]
    winner: TrialRecord | None
    exported: Exported | None
    rejected: list[str]
    tried: tuple[int, ...] = ()
    is_finalist: bool = False

    def record(self, context: StudyContext) -> None:
        """Write the winner and what was rejected into the journal, and the latter into the model's JSON."""
        known: dict[str, Any] = {REJECTED: self.rejected, WINNER: None}
        if self.exported is not None:
            facts = self.exported.facts
            known[WINNER] = {TRIAL: facts["trial"], CHECKPOINT: facts[CHECKPOINT]}
            if facts.get(REJECTED, []) != self.rejected:
                write_facts(self.exported.onnx, {**facts, REJECTED: self.rejected})
        for name, value in known.items():
            if context.study.user_attrs.get(name) != value:
                context.study.set_user_attr(name, value)
