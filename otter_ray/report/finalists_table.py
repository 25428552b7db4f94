"""What is printed of a study's finalists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

from otter_ray.direction import Direction
from otter_ray.formatting import fixed
from otter_ray.space.compatibility import SEED
from otter_ray.study.finalists import Finalist, are_decided, by_mean
from otter_ray.study.layout import FINALS
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord


def finals_table(finalists: Sequence[Finalist], metric: str, direction: Direction) -> Table:
    """List each finalist's value in the search and in each run, their mean and deviation, best first."""
    table = Table(title=f"Finalists by mean {metric}", title_justify="left", box=SIMPLE_HEAD)
    seeds = sorted({run.values[SEED] for finalist in finalists for run in finalist.runs})
    for name in ("trial", "search", *(f"seed {seed}" for seed in seeds), "mean", "std"):
        table.add_column(name, justify="right", no_wrap=True)
    ranked, is_over = by_mean(finalists, direction), are_decided(finalists)
    for finalist in [*ranked, *(other for other in finalists if other not in ranked)]:
        runs = {run.values[SEED]: _value(run) for run in finalist.runs}
        table.add_row(
            str(finalist.trial.number),
            fixed(finalist.trial.value),
            *(runs.get(seed, "-") for seed in seeds),
            fixed(finalist.mean),
            fixed(finalist.spread),
            style="bold green" if is_over and ranked and finalist is ranked[0] else "",
        )
    return table


def print_finals(
    show: Callable[[RenderableType], object], finalists: Sequence[Finalist], metric: str, direction: Direction
) -> None:
    """Show the table of the finalists and what follows from it.

    Args:
        show: prints a table or a line.
        finalists: of the study; nothing is shown without any.
        metric: of the study.
        direction: which values are better.
    """
    if any(finalist.runs for finalist in finalists):
        show(finals_table(finalists, metric, direction))
    for line in finals_lines(finalists, metric, direction):
        show(line)


def finals_lines(finalists: Sequence[Finalist], metric: str, direction: Direction) -> list[str]:
    """Say who wins and who was best in the search, and which runs are missing."""
    if not are_decided(finalists):
        ended, wanted = sum(f.ended for f in finalists), sum(f.seeds for f in finalists)
        return [f"{ended} of {wanted} runs of finalists have ended: until all have, the search's best stands"]
    lines = [_lack(finalist) for finalist in finalists if len(finalist.values) < finalist.seeds]
    ranked = by_mean(finalists, direction)
    if not ranked:
        return lines
    winner, favourite = ranked[0], finalists[0]
    if winner is favourite:
        own = f"{winner}, over {len(winner.values)} seeds ({fixed(winner.trial.value)} in the search)"
        return [*lines, f"trial {winner.trial.number} wins: mean {metric} {own}"]
    over = f"{favourite} over {len(favourite.values)} seeds"
    reached = over if favourite.values else "no run of it ended well"
    return [
        *lines,
        f"trial {favourite.trial.number} was best in the search ({fixed(favourite.trial.value)}) but "
        f"{reached}; trial {winner.trial.number} wins with {winner}",
    ]


def _lack(finalist: Finalist) -> str:
    failed = next(run for run in finalist.runs if run.state != TrialStatus.COMPLETE)
    lack = f"{finalist.seeds - len(finalist.values)} of {finalist.seeds} runs failed"
    rest = "its mean is over the rest" if finalist.values else "it is out"
    return f"trial {finalist.trial.number}: {lack} ({failed.error}; see {FINALS}/{failed.log}): {rest}"


def _value(run: TrialRecord) -> str:
    return fixed(run.value) if run.state == TrialStatus.COMPLETE else run.state
