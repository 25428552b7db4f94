"""A study as a picture below a notebook's cell, which is redrawn in its place."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console

from otter_ray.tune.display.live import LiveReporter, picture

if TYPE_CHECKING:
    from rich.console import RenderableType

    from otter_ray.tune.display.study_state import StudyState

COLUMNS, LINES = 110, 30  # of the picture
FRAME = '<pre style="line-height: 1.2; font-family: monospace">{code}</pre>'
# Shows a piece of HTML, and returns what replaces it by another one.
Show = Callable[[str], Callable[[str], object]]


def notebook() -> Show | None:
    """Return how to show HTML below the cell that runs; None if this process is no notebook's."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    # Colab's is a subclass.
    if "ZMQInteractiveShell" not in [cls.__name__ for cls in type(shell).__mro__]:
        return None
    display: Any = import_module("IPython.display")

    def show(html: str) -> Callable[[str], object]:
        handle = display.display(display.HTML(html), display_id=True)
        return lambda other: handle.update(display.HTML(other))

    return show


class NotebookReporter(LiveReporter):
    """Show the picture of `LiveReporter` below a cell.

    Args:
        console: prints everything else.
        show: as `notebook` returns it.
    """

    def __init__(self, console: Console, show: Show) -> None:
        super().__init__(console)
        self._show = show
        self._replace: Callable[[str], object] | None = None

    def _redraw(self, state: StudyState) -> None:
        """Replace the picture, if there is one."""
        if self._replace is not None:
            self._replace(to_html(picture(state, LINES, self.seconds)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the picture while trials run in the block, and remove it afterwards: tables follow."""
        self._has_news = True
        self._replace = self._show("")
        try:
            yield
        finally:
            self._replace("")
            self._replace = None


def to_html(renderable: RenderableType) -> str:
    """Return what rich prints as HTML."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_jupyter=False)
    console.print(renderable)
    return console.export_html(inline_styles=True, code_format=FRAME)
