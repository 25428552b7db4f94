"""What a running study looks like on a terminal: the picture that `LiveView` draws anew in its place."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from math import ceil

from rich.console import Group
from rich.table import Table
from rich.text import Text

from otter_ray.report.tables import sparkline
from otter_ray.tune.gpu import GIB
from otter_ray.tune.names import changes_of
from otter_ray.tune.show import clock
from otter_ray.tune.state import Reached, Running, StudyState

POINTS = 12  # of a curve
FRAME = 9  # lines of a picture that are no running trial's, at most
FEWEST = 3  # trials that are shown on however small a screen


def picture(state: StudyState, height: int, seconds: float) -> Group:
    """What a screen of so many lines shows."""
    return Group(Text(), *_head(state, seconds), Text(), _trials(state, max(FEWEST, height - FRAME)))


def _head(state: StudyState, seconds: float) -> list[Text]:
    unit, running = state.plan.unit, len(state.running)
    counts = {"running": running, **{name: state.counts[name] for name in ("pruned", "failed", "infeasible")}}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    first = Text.assemble(
        (f" {state.title}", "bold"),
        f"  {state.ended} of {state.trials} {unit}s done",
        f" ({told})" if told else "",
        f"  {clock(seconds).strip()}",
    )
    pace = [f"slots {running}/{state.plan.slots}"]
    if (rate := state.trials_an_hour) is not None:
        pace.append(f"{rate:.3g} {unit}s/hour")
    if (left := state.seconds_left) is not None:
        pace.append(f"about {_in_words(left)} left")
    if state.gpu is not None:
        peak, total = state.gpu
        pace.append(f"GPU {peak / GIB:.1f} of {total / GIB:.0f} GiB")
    lines = [first, Text(f" {'   '.join(pace)}")]
    if state.rungs:
        rungs = (f"{rung}: {state.passed(rung)} of {state.arrived[rung]}" for rung in state.rungs)
        lines.append(Text(f" passed after epoch  {'   '.join(rungs)}"))
    elif state.stopped:
        stopped = (f"{epoch}: {state.stopped[epoch]}" for epoch in sorted(state.stopped))
        lines.append(Text(f" stopped after epoch  {'   '.join(stopped)}"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _trials(state: StudyState, room: int) -> Table:
    """The best, the base config, and as many of those that run as there is room for: the best of them."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
    has_gpu = state.gpu is not None
    for name in ("", "trial", "epoch", state.options.metric):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True, min_width=min(POINTS, state.max_epochs), style="cyan")
    if has_gpu:
        table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("changed in the base config", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, reached, style in ((" best", state.best, "bold green"), (" base", state.base, "")):
        if reached is not None:
            table.add_row(name, *_row_of(state, reached, has_gpu), style=style)
    shown = list(state.running.values())
    if len(shown) > room:
        worst = float("-inf")
        key = lambda one: worst if one.best is None else state.sign * one.best  # noqa: E731
        shown = nlargest(room - 1, shown, key=key)
    for running in sorted(shown, key=lambda one: one.number):
        table.add_row("", *_row(state, running, has_gpu))
    if more := len(state.running) - len(shown):
        table.add_row("", f"+ {more}", *[""] * (3 + has_gpu), "more run, that are no better")
    return table


def _row_of(state: StudyState, reached: Reached, has_gpu: bool) -> list[Text | str]:
    epoch = f"{reached.epoch}/{state.max_epochs}"
    changes = "" if not reached.values else changes_of(reached.values)
    return _cells(state.name(reached.number), epoch, reached.value, reached.curve, [""] * has_gpu, changes)


def _row(state: StudyState, running: Running, has_gpu: bool) -> list[Text | str]:
    epoch = f"{running.epoch}/{state.max_epochs}"
    value = running.curve[-1] if running.curve else None
    peak = [f"{running.gpu[0] / GIB:.1f}" if running.gpu else ""] * has_gpu
    name, changes = state.name(running.number), changes_of(running.values)
    return _cells(name, epoch, value, running.curve, peak, changes)


def _cells(
    name: str, epoch: str, value: float | None, curve: Sequence[float], peak: Sequence[str], changes: str
) -> list[Text | str]:
    return [
        name,
        epoch,
        "" if value is None else f"{value:.4f}",
        sparkline(_thinned(curve)),
        *peak,
        Text(changes),  # what users named is no markup
    ]


def _thinned(curve: Sequence[float]) -> Sequence[float]:
    """At most `POINTS` of a curve's values, evenly spaced, the last one among them."""
    step = ceil(len(curve) / POINTS)
    return curve[::-1][:: max(1, step)][::-1]


def _in_words(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`: as rough as the estimate."""
    for unit, size, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / size:.{int(unit == 'h' and seconds < 36000)}f} {unit}"
    return f"{seconds / 86400:.1f} days"
