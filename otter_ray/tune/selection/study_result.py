"""What a study came to, for a program: its winner, its trials, and the winner's model.

Importing this module imports no torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.checkpoints import BEST_CHECKPOINT
from otter_ray.config import load_config
from otter_ray.config.given import giving
from otter_ray.errors import ExportError
from otter_ray.host_program import importing_from_here, left_as_found
from otter_ray.report.study_data import StudyData
from otter_ray.study.layout import StudyFolder, require_file
from otter_ray.study.schema import REJECTED, SCHEDULE
from otter_ray.study.trials import trials_table

if TYPE_CHECKING:
    import lightning as L
    import pandas as pd


@dataclass(frozen=True)
class BestModel:
    """The model that a study exported as its winner's.

    Attributes:
        trial: The number of its trial.
        params: Dotted keys that the trial changes in the config, with their values; empty for the base
            config.
        value: The study's metric at the exported epoch, as training logged it. The search selected on it.
        onnx: The verified ONNX file.
        checkpoint: The checkpoint that it was exported from.
        facts: The content of the JSON file next to the ONNX file: what the gate measured, on the test split
            too.
    """

    trial: int
    params: dict[str, Any]
    value: float
    onnx: Path
    checkpoint: Path
    facts: dict[str, Any]


@dataclass(frozen=True)
class StudyResult:
    """What a study came to, read from its folder when it is first asked for.

    Attributes:
        folder: The study's.
        code: The packages whose code `load` may run (`SearchProblem.code`).
        is_interrupted: Whether Ctrl-C ended the search before all trials had.
        given: Objects that the config names, of the program's own (`Study.of`).
    """

    folder: Path
    code: str
    is_interrupted: bool = False
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    @left_as_found()
    def best(self) -> BestModel:
        """The winner.

        Raises:
            ExportError: No trial has produced a model that passed the gate, and the message says why; or the
                journal lacks the model's trial.
        """
        data = self._data
        if data.model is None:
            reasons = data.study.user_attrs.get(REJECTED) or ["no trial has a value yet"]
            raise ExportError(
                f"{self.folder}: no trial produced a model that passed the gate. " + "; ".join(reasons)
            )
        onnx, facts = data.model
        values = next((row.values for row in data.rows if row.number == facts["trial"]), None)
        if values is None:
            raise ExportError(
                f"{onnx.with_suffix('.json')}: is about trial {facts['trial']}, which the study's journal "
                "lacks. Restore the two from the same copy of the study, or --resume it."
            )
        return BestModel(
            trial=facts["trial"],
            params={key: value for key, value in values.items() if key != SCHEDULE},
            value=facts["gate"]["recorded"],
            onnx=onnx,
            checkpoint=self.folder / BEST_CHECKPOINT,
            facts=facts,
        )

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial, with the columns of `trials.parquet`."""
        config = load_config(require_file(StudyFolder(self.folder).config_file))
        return trials_table(self._data.rows, config).to_pandas()

    def _repr_html_(self) -> str:
        """Return the report, for a notebook to show."""
        from otter_ray.report.html_report import REPORT

        place = self.folder / REPORT
        if not place.is_file():
            command = escape(shlex.join(["python", "-m", "otter_ray.report", str(self.folder)]))
            return (
                f"<p>{escape(str(self.folder))}: no report has been written. Write it: "
                f"<code>{command}</code></p>"
            )
        page = escape(place.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'

    def load(self) -> L.LightningModule:
        """Build the winner's LightningModule with its weights, in evaluation mode, on the CPU.

        Raises:
            ExportError: There is no winner, or its checkpoint cannot be read.
        """
        from otter_ray.export.evaluation import config_of, read_run_checkpoint
        from otter_ray.train.builders import load_model_from_config

        checkpoint = self.best.checkpoint
        config = config_of(read_run_checkpoint(checkpoint), checkpoint, self.code)
        with left_as_found(), importing_from_here(), giving(self.given):
            return load_model_from_config(config, checkpoint).lightning_module

    @cached_property
    @left_as_found()
    def _data(self) -> StudyData:
        return StudyData.open(self.folder)
