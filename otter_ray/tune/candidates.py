"""What may be exported, best first: trials, or the runs of the finalists where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otter_ray.config import Config
from otter_ray.report.finals import FINALISTS, by_mean, finalists_of
from otter_ray.report.rows import TrialRow, rank, read_rows
from otter_ray.tune.folder import config_of
from otter_ray.tune.storage import TRIALS

if TYPE_CHECKING:
    from otter_ray.tune.run import Search


@dataclass(frozen=True)
class Candidate:
    """The best epoch of a trial, or of a finalist's run.

    Attributes:
        search: whose row it is: the search, or the finals.
        trial: its number, or that of the trial that the run trains again.
    """

    search: Search
    row: TrialRow
    trial: int

    def __str__(self) -> str:
        number = self.row.number
        return f"trial {self.search.labels.get(number, number)} ({self.row.value:.4f})"

    @property
    def label(self) -> str:
        """What tells its file from those of others, where several are exported."""
        return f"_trial{self.trial}" if self.search.exports.are_several else ""

    @property
    def config(self) -> Config:
        """What it ran with."""
        base = config_of(self.search.folder, self.row.config, self.search.config)
        return base.with_values(self.row.values)

    def checkpoint(self) -> Path:
        """Where its checkpoint lies, if it is still there; fetched from where the study is kept."""
        folder, storage = self.search.folder.trial(self.row.number), self.search.storage
        if storage is not None:
            storage.get(f"{TRIALS}/{folder.name}", folder)
        return folder / "checkpoints" / "best.ckpt"


def candidates(search: Search, finals: Search | None = None) -> Iterator[Candidate]:
    """All of them, best first.

    Args:
        finals: the finalists' runs: the best run of the finalist with the best mean is the first then.
    """
    rows, mode = read_rows(search.study), search.space.study.mode
    if finals is None:
        yield from (Candidate(search, row, row.number) for row in rank(rows, mode))
        return
    asked = search.study.user_attrs[FINALISTS]
    for finalist in by_mean(finalists_of(rows, mode, asked, finals.study), mode):
        yield from (Candidate(finals, run, finalist.trial.number) for run in rank(finalist.runs, mode))
    # Where no run of any finalist gave a model.
    yield from (Candidate(search, row, row.number) for row in rank(rows, mode))
