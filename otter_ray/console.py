"""The terminal: what otter_ray logs, printed there by the commands.

Library code prints nothing. It logs to the loggers below `otter_ray`: progress and notes as INFO, results and
whatever else `--quiet` prints as NOTICE, then WARNING and ERROR. A command prints the records while it is in
`log_to_console`. A program that embeds otter_ray attaches handlers of its own, or none.

Nothing that is only shown may cost what is computed: a command writes to its standard streams through
`lasting_streams`.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otter_ray.formatting import printable
from otter_ray.redaction import safe_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult

WIDE = 10_000  # columns of what is no terminal: each row of a table is a line
NOTICE = 25  # above INFO: printed with --quiet as well; below WARNING
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red"}
PLAINER = "otter_ray.plainer"  # name of the error handler for characters that an encoding lacks
# What otter_ray and rich draw with, and what a plain terminal shows instead, as wide as that.
PLAIN = dict(zip("▁▂▃▄▅▆▇█─━│·…±", "_.-=+*%#--|.~~", strict=True))

logging.addLevelName(NOTICE, "NOTICE")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: those of drawings by plain ones, others by their escape."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(one) or ascii(one)[1:-1] for one in lacking), error.end


codecs.register_error(PLAINER, _plainer)


class LastingOutput(io.FileIO):
    """Write to a file descriptor, and nowhere once that fails.

    The reader of a pipe may leave, a terminal may be closed, the disk of a log may be full.
    """

    def write(self, data: Any, /) -> int:
        """Write the bytes, or drop them."""
        try:
            return super().write(data)
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return memoryview(data).nbytes


def lasting_streams() -> None:
    """Make this process's standard streams print what they can, and raise nothing.

    Characters that their encoding lacks are replaced. What nobody reads any more is dropped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if not isinstance(stream, io.TextIOWrapper):
            continue  # it belongs to a program that embeds otter_ray
        raw = getattr(stream.buffer, "raw", stream.buffer)
        if stream is getattr(sys, f"__{name}__") and isinstance(raw, io.FileIO):
            stream.flush()
            stream = io.TextIOWrapper(
                io.BufferedWriter(LastingOutput(raw.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, stream)
        stream.reconfigure(errors=PLAINER)


def plain_console(stderr: bool = False) -> Console:
    """Make a console for text from anywhere: names given by users, errors of trials.

    There is no markup, long lines are not folded, and control characters are left out.

    A table that goes to a file or a pipe has as many columns as it needs.

    Args:
        stderr: whether it writes to the standard error.
    """
    from rich.console import Console

    console = Console(markup=False, highlight=False, soft_wrap=True, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    console.push_render_hook(PrintableOnly())  # type: ignore[arg-type]
    return console


class PrintableOnly:
    """Leave control characters out of all that a console prints. A render hook in rich's words."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return the renderables, each without control characters."""
        return [Printable(renderable) for renderable in renderables]


class Printable:
    """A renderable without the control characters in its text; rich's own are kept.

    Args:
        renderable: what rich can print.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def notice(logger: logging.Logger, text: str, style: str | None = None) -> None:
    """Log what a user of `--quiet` is to read as well: a result, or why a study ends early.

    Args:
        logger: the module's logger.
        text: the message.
        style: of the text on a console, in rich's words.
    """
    logger.log(NOTICE, text, extra={"style": style})


class ConsoleHandler(logging.Handler):
    """Print log records on a console, one a line.

    Args:
        console: prints them.
        level: the lowest level that is printed.
    """

    def __init__(self, console: Console, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, without secrets. An error of the console is the caller's, as with `print`."""
        text = safe_text(record.getMessage())
        if record.levelno == logging.WARNING:
            text = f"warning: {text}"
        with defer_sigint():
            self.console.print(text, style=getattr(record, "style", None) or STYLES.get(record.levelno))


@contextmanager
def log_to_console(console: Console, quiet: bool = False) -> Iterator[None]:
    """Print on a console what otter_ray logs during the block.

    Args:
        console: prints the records.
        quiet: whether progress and notes are left out.
    """
    logger, handler = (
        logging.getLogger("otter_ray"),
        ConsoleHandler(console, NOTICE if quiet else logging.INFO),
    )
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library may have given the root logger a handler
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def defer_sigint() -> Iterator[None]:
    """Handle a Ctrl-C that arrives during the block when the block ends.

    Without that, rich would print twice what an interrupt cut short. A second Ctrl-C raises KeyboardInterrupt
    at once: the printing itself may hang.
    """
    handler = signal.getsignal(signal.SIGINT)
    # None: the handler was not installed by Python and could not be restored.
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    has_come = False

    def hold(signum: int, frame: object) -> None:
        nonlocal has_come
        if has_come:
            raise KeyboardInterrupt
        has_come = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if has_come:
            signal.raise_signal(signal.SIGINT)
