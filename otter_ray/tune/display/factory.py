"""Choose the progress reporter of a command, once."""

from __future__ import annotations

import sys

from otter_ray.console import plain_console
from otter_ray.tune.display.reporter import ProgressReporter


def choose_reporter(as_json: bool = False, quiet: bool = False) -> ProgressReporter:
    """Choose JSON lines if asked for, a live view on a terminal or in a notebook, else plain lines.

    Args:
        as_json: `--json`.
        quiet: `--quiet`.
    """
    console = plain_console(stderr=as_json)
    if as_json:
        from otter_ray.tune.display.json_lines import JsonLinesReporter

        return JsonLinesReporter(console, sys.stdout, quiet)
    if not quiet and "IPython" in sys.modules:
        from otter_ray.tune.display.notebook import NotebookReporter, notebook

        if (show := notebook()) is not None:
            return NotebookReporter(console, show)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    if quiet or not is_terminal or console.is_dumb_terminal:
        from otter_ray.tune.display.plain import PlainReporter

        return PlainReporter(console, quiet)
    from otter_ray.tune.display.live import LiveReporter

    return LiveReporter(console)
