"""The base of progress reporters, which show a running study."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otter_ray.console import defer_sigint, log_to_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from otter_ray.tune.display.study_state import StudyState


class ProgressReporter:
    """Follow a study and show no event of it. The base of those that do.

    Messages are not its business: whoever has one logs it (`otter_ray.console`).

    Args:
        console: prints tables, and during `command` what is logged; None to print nothing.
        quiet: print warnings, errors and results only.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console, self.quiet, self.started = console, quiet, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.started

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """React to something that happened. `docs/reference/events.md` lists the kinds and their facts.

        Args:
            kind: of event.
            state: of the study, which includes the event already; None outside the search.
            **facts: about the event.
        """

    def draw(self, state: StudyState) -> None:
        """Draw the study if it is time to: called some ten times a second while trials run.

        Args:
            state: of the study.
        """

    def show(self, renderable: RenderableType) -> None:
        """Print a table, or another part of a page of results.

        Args:
            renderable: what rich can print.
        """
        if self.console is not None and not self.quiet:
            with defer_sigint():
                self.console.print(renderable)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run trials in the block."""
        yield

    @contextmanager
    def command(self) -> Iterator[None]:
        """Run the whole command in the block, and print what is logged."""
        if self.console is None:
            yield
            return
        with log_to_console(self.console, self.quiet):
            yield


def describe_failure(error: str, log: str, goes_on: bool, **_: Any) -> str:
    """Describe in one line the error of a trial, and name the file with its traceback.

    Args:
        error: in one line.
        log: of the trial, in the study's folder.
        goes_on: whether the trial is run again.
    """
    if goes_on:
        return f"{error}; it resumes from its last checkpoint (see {log})"
    return f"failed: {error} (see {log})"
