"""A study as JSON lines, for programs: one object for each event."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, TYPE_CHECKING, Any

from otter_ray.redaction import redacted
from otter_ray.tune.display.reporter import ProgressReporter

if TYPE_CHECKING:
    from rich.console import Console

    from otter_ray.tune.display.study_state import StudyState


class JsonLinesReporter(ProgressReporter):
    """Write a JSON object for each event to a stream, and nothing else there.

    Args:
        console: prints the words; on the standard error.
        stream: gets the objects.
        quiet: print warnings, errors and results only.
    """

    def __init__(self, console: Console, stream: IO[str], quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self.stream = stream

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Write the event, with the seconds since the command began."""
        line = json.dumps({"event": kind, "at": round(self.seconds, 3), **facts}, default=str)
        try:
            print(line, file=self.stream, flush=True)
        except BrokenPipeError:
            # The reading program is gone; the study continues.
            self.stream = open(os.devnull, "w")  # noqa: SIM115

    @contextmanager
    def command(self) -> Iterator[None]:
        """Send what libraries print to the standard error, and write an event for what ends the command."""
        with redirect_stdout(sys.stderr), super().command():
            try:
                yield
            except KeyboardInterrupt:
                self.event("error", error="interrupted")
                raise
            except Exception as exc:
                self.event("error", error=redacted(str(exc)) or type(exc).__name__)
                raise
