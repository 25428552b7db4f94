"""List what may be exported, best first: trials, or the runs of the finalists if there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from otter_ray.checkpoints import BEST_CHECKPOINT, best_checkpoint_of
from otter_ray.config import Config
from otter_ray.study.finalists import by_mean, finalists_of
from otter_ray.study.layout import TRIALS, trial_checkpoint
from otter_ray.study.opening import base_config_of
from otter_ray.study.schema import FINALISTS
from otter_ray.study.trials import TrialRecord, base_of, rank, read_records
from otter_ray.tune.context import StudyContext


@dataclass(frozen=True)
class Candidate:
    """The best epoch of a trial, or of a finalist's run.

    Attributes:
        context: of the study that the row belongs to: the search or the finals.
        row: of the trial or the run.
        trial: the trial's number, or that of the trial that the run trains again.
    """

    context: StudyContext
    row: TrialRecord
    trial: int

    def __str__(self) -> str:
        return f"trial {self.context.names.trial(self.row.number)} ({self.row.value:.4f})"

    @property
    def label(self) -> str:
        """What distinguishes its file from those of other trials."""
        return f"_trial{self.trial}"

    @property
    def config(self) -> Config:
        """The config that it ran with."""
        base = base_config_of(self.context.folder, self.row.config, self.context.config)
        return base.with_values(self.row.values)

    def checkpoint(self) -> Path:
        """Return where its checkpoint is, if it still exists; fetch it from the storage if necessary."""
        folder, storage = self.context.folder.trial(self.row.number), self.context.storage
        if storage is not None:
            storage.get(f"{TRIALS}/{folder.name}", folder)
        return best_checkpoint_of(folder)

    def is_kept(self) -> bool:
        """Say whether its checkpoint still exists, here or in the storage."""
        name, storage = trial_checkpoint(self.row.number, BEST_CHECKPOINT), self.context.storage
        return (self.context.folder.path / name).is_file() or bool(storage and storage.exists(name))


def base_checkpoint(context: StudyContext, rows: Sequence[TrialRecord]) -> tuple[int, Path] | None:
    """Return the number of the base config's trial and its checkpoint, if that still exists.

    Args:
        context: of the study.
        rows: its trials.
    """
    if (row := base_of(rows)) is None:
        return None
    checkpoint = Candidate(context, row, row.number).checkpoint()
    return (row.number, checkpoint) if checkpoint.is_file() else None


def candidates(context: StudyContext, finals: StudyContext | None = None) -> Iterator[Candidate]:
    """Yield all candidates, best first.

    Args:
        context: of the study.
        finals: the finalists' runs. If given, the best run of the finalist with the best mean is the first.
    """
    rows, direction = read_records(context.study), context.problem.options.direction
    if finals is None:
        yield from (Candidate(context, row, row.number) for row in rank(rows, direction))
        return
    asked = context.study.user_attrs[FINALISTS]
    for finalist in by_mean(finalists_of(rows, direction, asked, finals.study), direction):
        yield from (Candidate(finals, run, finalist.trial.number) for run in rank(finalist.runs, direction))
    # In case no run of any finalist produced a model.
    yield from (Candidate(context, row, row.number) for row in rank(rows, direction))
