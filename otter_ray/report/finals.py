"""The finalists of a study: its best trials, each trained again over seeds, and who of them wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import optuna
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from otter_ray.config.space_check import SEED
from otter_ray.report.rows import TrialRow, mode_of, newest_study, open_journal, rank, trial_row

# The folder of their runs in the study's: a study of its own, without a search.
FINALS = "finals"
# Kept of a study: with how many finalists, over how many seeds, it is to end (`top`, `seeds`).
FINALISTS = "finalists"
# Kept of a run: the number of the trial that it trains again.
FINALIST = "finalist"
GIVEN_UP = "pruned"  # state of a run that was broken off when its trial was no finalist any more


@dataclass(frozen=True)
class Finalist:
    """A trial of the search, and its runs over seeds.

    Attributes:
        trial: its row in the search.
        runs: by seed, as far as they have begun.
        seeds: runs that it is to have.
    """

    trial: TrialRow
    runs: list[TrialRow]
    seeds: int

    @property
    def ended(self) -> int:
        """How many of its runs have."""
        return sum(run.has_ended for run in self.runs)

    @property
    def values(self) -> list[float]:
        """The metric's best value in each run that did not fail."""
        return [run.value for run in self.runs if run.state == "complete" and run.value is not None]

    @property
    def mean(self) -> float | None:
        """Of the values. The search's own does not count: it was chosen for being high."""
        return mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the values, with n - 1; None for a single one."""
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        spread = f" ± {self.spread:.4f}" if self.spread is not None else ""
        return f"{_number(self.mean)}{spread}"


def top_of(rows: Sequence[TrialRow], mode: str, top: int) -> list[TrialRow]:
    """The trials that become finalists, best first.

    One that was stopped early may be among them. One that ran before the study's config was changed may not:
    it cannot be trained again beside the others. Of two that are alike the better one is enough.
    """
    able = [row for row in rank(rows, mode) if row.has_ended and row.config is None]
    unlike = [row for i, row in enumerate(able) if row.values not in [other.values for other in able[:i]]]
    return unlike[:top]


def runs_of(study: optuna.Study) -> dict[tuple[int, int], TrialRow]:
    """The runs of a study of finals by (trial, seed); where one was begun anew, the newest."""
    trials, maximize = study.get_trials(deepcopy=False), mode_of(study) == "max"
    rows = ((trial.user_attrs[FINALIST], trial_row(trial, maximize, {})) for trial in trials)
    return {(number, row.values[SEED]): row for number, row in rows if row.state != GIVEN_UP}


def finalists_of(
    rows: Sequence[TrialRow], mode: str, asked: Mapping[str, int] | None, finals: optuna.Study | None
) -> list[Finalist]:
    """The finalists, the search's best first.

    Args:
        rows: the search's trials.
        asked: `top` and `seeds`; None: there are to be none.
        finals: the study of their runs; None where none has begun.
    """
    if not asked:
        return []
    runs, seeds = runs_of(finals) if finals else {}, asked["seeds"]

    def finalist(row: TrialRow) -> Finalist:
        own = sorted(seed for number, seed in runs if number == row.number)[:seeds]
        return Finalist(row, [runs[row.number, seed] for seed in own], seeds)

    return [finalist(row) for row in top_of(rows, mode, asked["top"])]


def read_finalists(study: optuna.Study, folder: Path, rows: Sequence[TrialRow], mode: str) -> list[Finalist]:
    """The finalists of the study in a folder, running or done."""
    journal = folder / FINALS / "study.journal"
    finals = newest_study(open_journal(journal)) if journal.is_file() else None
    return finalists_of(rows, mode, study.user_attrs.get(FINALISTS), finals)


def by_mean(finalists: Sequence[Finalist], mode: str) -> list[Finalist]:
    """Those with a mean, the best first; the earlier trial of two equals first."""
    sign = -1.0 if mode == "max" else 1.0
    able = [finalist for finalist in finalists if finalist.mean is not None]
    return sorted(able, key=lambda finalist: (sign * (finalist.mean or 0.0), finalist.trial.number))


def are_decided(finalists: Sequence[Finalist]) -> bool:
    """Whether every run has ended."""
    return all(finalist.ended == finalist.seeds for finalist in finalists)


def rank_with_finals(rows: Sequence[TrialRow], mode: str, finalists: Sequence[Finalist]) -> list[TrialRow]:
    """The rows that can win, best first: decided finalists by their mean, then the others."""
    first = [f.trial for f in by_mean(finalists, mode)] if are_decided(finalists) else []
    return [*first, *(row for row in rank(rows, mode) if row not in first)]


def finals_table(finalists: Sequence[Finalist], metric: str, mode: str) -> Table:
    """Each finalist's value in the search, in each run, their mean and standard deviation; best first."""
    table = Table(title=f"Finalists by mean {metric}", title_justify="left", box=SIMPLE_HEAD)
    seeds = sorted({run.values[SEED] for finalist in finalists for run in finalist.runs})
    for name in ("trial", "search", *(f"seed {seed}" for seed in seeds), "mean", "std"):
        table.add_column(name, justify="right", no_wrap=True)
    ranked, is_over = by_mean(finalists, mode), are_decided(finalists)
    for finalist in [*ranked, *(other for other in finalists if other not in ranked)]:
        runs = {run.values[SEED]: _value(run) for run in finalist.runs}
        table.add_row(
            str(finalist.trial.number),
            _number(finalist.trial.value),
            *(runs.get(seed, "-") for seed in seeds),
            _number(finalist.mean),
            _number(finalist.spread),
            style="bold green" if is_over and ranked and finalist is ranked[0] else "",
        )
    return table


def print_finals(console: Console, finalists: Sequence[Finalist], metric: str, mode: str) -> None:
    """The table and what follows from it; nothing without finalists."""
    if any(finalist.runs for finalist in finalists):
        console.print(finals_table(finalists, metric, mode))
    for line in finals_lines(finalists, metric, mode):
        console.print(line)


def finals_lines(finalists: Sequence[Finalist], metric: str, mode: str) -> list[str]:
    """Who wins, beside who was best in the search; which runs are missing."""
    if not are_decided(finalists):
        ended, wanted = sum(f.ended for f in finalists), sum(f.seeds for f in finalists)
        return [f"{ended} of {wanted} runs of finalists have ended: until all have, the search's best stands"]
    lines = [_lack(finalist) for finalist in finalists if len(finalist.values) < finalist.seeds]
    ranked = by_mean(finalists, mode)
    if not ranked:
        return lines
    winner, favourite = ranked[0], finalists[0]
    if winner is favourite:
        own = f"{winner}, over {len(winner.values)} seeds ({_number(winner.trial.value)} in the search)"
        return [*lines, f"trial {winner.trial.number} wins: mean {metric} {own}"]
    over = f"{favourite} over {len(favourite.values)} seeds"
    reached = over if favourite.values else "no run of it ended well"
    return [
        *lines,
        f"trial {favourite.trial.number} was best in the search ({_number(favourite.trial.value)}) but "
        f"{reached}; trial {winner.trial.number} wins with {winner}",
    ]


def _lack(finalist: Finalist) -> str:
    failed = next(run for run in finalist.runs if run.state != "complete")
    lack = f"{finalist.seeds - len(finalist.values)} of {finalist.seeds} runs failed"
    rest = "its mean is over the rest" if finalist.values else "it is out"
    return f"trial {finalist.trial.number}: {lack} ({failed.error}; see {FINALS}/{failed.log}): {rest}"


def _value(run: TrialRow) -> str:
    return _number(run.value) if run.state == "complete" else run.state


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
