"""A study as a live view on a terminal: a picture that is redrawn in its place."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import nlargest
from math import ceil
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from otter_ray.console import Printable, defer_sigint
from otter_ray.formatting import GIB, clock, sparkline, sparkline_ends
from otter_ray.study.naming import changes_of
from otter_ray.study.status import TrialStatus
from otter_ray.tune.display.reporter import ProgressReporter, describe_failure

if TYPE_CHECKING:
    from otter_ray.tune.display.study_state import BestValue, RunningTrial, StudyState

POINTS = 12  # of a curve
FRAME = 9  # lines of a picture that are no running trial's, at most
FEWEST = 3  # running trials that are shown on the smallest screen
EVERY = 0.25  # seconds between two pictures of a study in which something happens...
IDLE = 1.0  # ...and of one in which only the clock advances
SHARE = 0.02  # of the driver's time that pictures may take, however large the screen is

logger = logging.getLogger(__name__)


class LiveReporter(ProgressReporter):
    """Show the running trials, the rungs, and the best trial next to the base config.

    The picture is drawn in the driver's thread, between two of Tune's rounds, so there is nothing to lock.
    What is printed meanwhile, such as warnings and errors, appears above it.

    Args:
        console: of the terminal.
    """

    console: Console

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._drawn, self._cost, self._has_news = 0.0, 0.0, True

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Log an error; the next picture shows everything else."""
        self._has_news = True
        if kind == "error" and state is not None:
            logger.error(f"{clock(self.seconds)}  trial {facts['name']}  {describe_failure(**facts)}")

    def draw(self, state: StudyState) -> None:
        """Draw the picture, if it is time to."""
        now = time.monotonic()
        if now - self._drawn < max(EVERY if self._has_news else IDLE, self._cost / SHARE):
            return
        self._drawn, self._has_news = now, False
        self._redraw(state)
        self._cost = time.monotonic() - now

    def _redraw(self, state: StudyState) -> None:
        """Replace the picture, if there is one."""
        if self._live is None:
            return
        with defer_sigint():
            shown = picture(state, self.console.height, self.seconds)
            self._live.update(Printable(shown), refresh=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the picture while trials run in the block, and remove it afterwards: tables follow."""
        # A standard error that goes elsewhere stays there.
        is_shared = sys.stderr.isatty()
        live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stderr=is_shared)
        self._has_news = True
        with defer_sigint():
            live.start()
        self._live = live
        try:
            yield
        finally:
            self._live = None
            with defer_sigint():
                live.stop()


def picture(state: StudyState, height: int, seconds: float) -> Group:
    """Compose the picture for a screen.

    Args:
        state: of the study.
        height: of the screen in lines.
        seconds: since the command began.
    """
    return Group(Text(), *_head(state, seconds), Text(), _trials(state, max(FEWEST, height - FRAME)))


def _head(state: StudyState, seconds: float) -> list[Text]:
    unit, running = state.plan.unit, len(state.running)
    not_complete = (TrialStatus.PRUNED, TrialStatus.FAILED, TrialStatus.INFEASIBLE)
    counts = {"running": running, **{str(status): state.counts[status] for status in not_complete}}
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    first = Text.assemble(
        (f" {state.names.title}", "bold"),
        f"  {state.ended} of {state.trials} {unit}s done",
        f" ({others})" if others else "",
        f"  {clock(seconds).strip()}",
    )
    pace = [f"slots {running}/{state.plan.slots}"]
    if (rate := state.trials_an_hour) is not None:
        pace.append(f"{rate:.3g} {unit}s/hour")
    if (left := state.seconds_left) is not None:
        pace.append(f"about {_in_words(left)} left")
    if state.gpu is not None:
        peak, total = state.gpu.peak, state.gpu.total
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
    """Make the table: the best trial, the base config, and the best running trials that there is room for."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
    has_gpu = state.gpu is not None
    for name in ("", "trial", "epoch", state.options.metric):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True, min_width=min(POINTS, state.max_epochs), style="cyan")
    if has_gpu:
        table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("changed in the base config", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, value, style in ((" best", state.best, "bold green"), (" base", state.base, "")):
        if value is not None:
            table.add_row(name, *_row_of(state, value, has_gpu), style=style)
    shown = list(state.running.values())
    if len(shown) > room:
        worst = float("-inf")
        key = lambda one: worst if one.best is None else state.direction.sign * one.best  # noqa: E731
        shown = nlargest(room - 1, shown, key=key)
    for running in sorted(shown, key=lambda one: one.number):
        table.add_row("", *_row(state, running, has_gpu))
    if more := len(state.running) - len(shown):
        table.add_row("", f"+ {more}", *[""] * (3 + has_gpu), "more are running, none with a better value")
    return table


def _row_of(state: StudyState, best: BestValue, has_gpu: bool) -> list[Text | str]:
    epoch = f"{best.epoch}/{state.max_epochs}"
    changes = "" if not best.values else changes_of(best.values)
    return _cells(state.names.trial(best.number), epoch, best.value, best.curve, [""] * has_gpu, changes)


def _row(state: StudyState, running: RunningTrial, has_gpu: bool) -> list[Text | str]:
    epoch = f"{running.epoch}/{state.max_epochs}"
    value = running.curve[-1] if running.curve else None
    peak = [f"{running.gpu.peak / GIB:.1f}" if running.gpu else ""] * has_gpu
    name, changes = state.names.trial(running.number), changes_of(running.values)
    return _cells(name, epoch, value, running.curve, peak, changes)


def _cells(
    name: str, epoch: str, value: float | None, curve: Sequence[float], peak: Sequence[str], changes: str
) -> list[Text | str]:
    return [
        name,
        epoch,
        "" if value is None else f"{value:.4f}",
        sparkline(_thinned(curve), sparkline_ends([curve])),
        *peak,
        Text(changes),  # names given by users are not markup
    ]


def _thinned(curve: Sequence[float]) -> Sequence[float]:
    """Return at most `POINTS` of a curve's values, evenly spaced, the last one among them."""
    step = ceil(len(curve) / POINTS)
    return curve[::-1][:: max(1, step)][::-1]


def _in_words(seconds: float) -> str:
    """Format a time as roughly as the estimate is: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, size, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / size:.{int(unit == 'h' and seconds < 36000)}f} {unit}"
    return f"{seconds / 86400:.1f} days"
