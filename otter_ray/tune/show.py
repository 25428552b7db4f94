"""Who shows a running study: plain lines, a live view, or JSON lines; chosen once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, TYPE_CHECKING, Any

from otter_ray.cli import held_interrupt, plain_console, tell

if TYPE_CHECKING:
    import optuna
    from rich.console import Console
    from rich.live import Live

    from otter_ray.report.rows import TrialRow
    from otter_ray.tune.state import StudyState

EVERY = 0.25  # seconds between two pictures of a study in which something happens...
IDLE = 1.0  # ...and of one in which only the clock goes on
SHARE = 0.02  # of the driver's time that pictures may take, on however large a screen


class Show:
    """Shows nothing of a study's events. The base of those who do.

    Args:
        console: where everything else that is to be read goes.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.started = console, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self.started

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Something happened, which the state knows already. `docs/dashboards.md` lists kinds and facts."""

    def draw(self, state: StudyState) -> None:
        """Called some ten times a second while trials run."""

    def note(self, text: str) -> None:
        """Prints what is good to know."""
        with held_interrupt():
            self.console.print(text)

    def tell(self, text: str) -> None:
        """Prints what is to be heard with --quiet, too. A signal's handler may call it at any time."""
        tell(self.console, text, style="yellow")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Trials run in here."""
        yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The whole command is in here."""
        yield


class Lines(Show):
    """A plain line for each epoch of each trial, beside the best so far. On a quiet console: errors alone."""

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Prints the line of an epoch or of an error."""
        if state is None or kind not in ("epoch", "error"):
            return
        where = f"{clock(self.seconds)}  {state.ended:3d}/{state.trials} done  trial {facts['name']:>4}"
        if kind == "error":
            tell(self.console, f"{where}  {what_failed(**facts)}", style="red")
            return
        beside, ending = "violates a constraint", "  stopped" if facts["stopped"] else ""
        if best := facts["best"]:
            beside = f"best {best['value']:.4f}, trial {state.name(best['trial'])}"
        epoch, metric = f"epoch {facts['epoch']}/{facts['epochs']}", state.options.metric
        with held_interrupt():
            self.console.print(f"{where}  {epoch}  {metric} {facts['value']:.4f}  ({beside}){ending}")


def what_failed(error: str, log: str, goes_on: bool, **_: Any) -> str:
    """An error of a trial in one line, with where to read on."""
    if goes_on:
        return f"{error}; it goes on from its last checkpoint (see {log})"
    return f"failed: {error} (see {log})"


class LiveView(Show):
    """Trials that run, rungs, and the best so far beside the base config.

    Drawn in the driver's thread, between two of Tune's rounds: there is nothing to lock. What others print
    meanwhile, warnings and errors, stays above it.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._drawn, self._cost, self._has_news = 0.0, 0.0, True

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Prints an error above the picture; of anything else the next picture tells."""
        self._has_news = True
        if kind == "error" and state is not None:
            where = f"{clock(self.seconds)}  trial {facts['name']}"
            tell(self.console, f"{where}  {what_failed(**facts)}", style="red")

    def draw(self, state: StudyState) -> None:
        """Draws, if that is due."""
        from otter_ray.tune.live import picture

        now = time.monotonic()
        since = now - self._drawn
        if self._live is None or since < (EVERY if self._has_news else IDLE) or since < self._cost / SHARE:
            return
        self._drawn, self._has_news = now, False
        with held_interrupt():
            self._live.update(picture(state, self.console.height, self.seconds), refresh=True)
        self._cost = time.monotonic() - now

    @contextmanager
    def running(self) -> Iterator[None]:
        """The picture is there while trials run, and gone afterwards: tables follow."""
        from rich.live import Live

        # A standard error that goes elsewhere stays there.
        shared = sys.stderr.isatty()
        live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stderr=shared)
        self._has_news = True
        with held_interrupt():
            live.start()
        self._live = live
        try:
            yield
        finally:
            self._live = None
            with held_interrupt():
                live.stop()


class JsonLines(Show):
    """A JSON object for each event on `stream`, and nothing else there: words go to stderr."""

    def __init__(self, console: Console, stream: IO[str]) -> None:
        super().__init__(console)
        self.stream = stream

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Writes the event, with the seconds since the command began."""
        line = json.dumps({"event": kind, "at": round(self.seconds, 3), **facts}, default=str)
        try:
            print(line, file=self.stream, flush=True)
        except BrokenPipeError:
            # Who watched is gone; the study goes on.
            self.stream = open(os.devnull, "w")  # noqa: SIM115

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What libraries print goes to stderr; what ends the command is an event, too."""
        with redirect_stdout(sys.stderr):
            try:
                yield
            except KeyboardInterrupt:
                self.event("error", error="interrupted")
                raise
            except Exception as exc:
                self.event("error", error=str(exc) or type(exc).__name__)
                raise


def summary(study: optuna.Study) -> dict[str, Any]:
    """How many trials are in which state, the best and the base config: facts of a study that is over."""
    from otter_ray.report.rows import base_of, mode_of, rank, read_rows

    rows = read_rows(study)
    best, base = next(iter(rank(rows, mode_of(study))), None), base_of(rows)
    told = {"best": best, "base": base}
    trials = Counter(row.state for row in rows)
    return {"trials": dict(trials), **{name: _place(row) for name, row in told.items()}}


def _place(row: TrialRow | None) -> dict[str, Any] | None:
    return {"trial": row.number, "value": row.value, "epoch": row.best_epoch} if row else None


def clock(seconds: float) -> str:
    """`  0:07`, ` 12:34`: minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"


def choose_show(as_json: bool = False, quiet: bool = False) -> Show:
    """JSON lines if asked for, a live view on a terminal, plain lines elsewhere."""
    console = plain_console(quiet=quiet, stderr=as_json)
    if as_json:
        return JsonLines(console, sys.stdout)
    if quiet or not sys.stdout.isatty() or console.is_dumb_terminal:
        return Lines(console)
    return LiveView(console)
