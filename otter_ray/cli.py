"""What the commands share: options that look the same everywhere, and one way to end."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from otter_ray.errors import OtterError, is_full
from otter_ray.warn import once

if TYPE_CHECKING:
    from rich.console import Console

USER_ERROR, INTERRUPTED = 2, 130

ConfigName = Annotated[
    str, typer.Argument(metavar="CFG", help="A config's name (in configs/) or the path of its YAML file.")
]

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the config. Repeat for more."),
]


def plain_console(quiet: bool = False, stderr: bool = False) -> Console:
    """A console for what users named: brackets in it are no markup, long lines are not folded.

    Args:
        quiet: it prints nothing but what is told (`tell`).
    """
    from rich.console import Console

    return Console(markup=False, highlight=False, soft_wrap=True, quiet=quiet, stderr=stderr)


def tell(console: Console, text: str, style: str | None = None) -> None:
    """Prints what is to be heard from a quiet console, too: warnings, errors, results."""
    before, console.quiet = console.quiet, False
    try:
        with held_interrupt():
            console.print(text, style=style)
    finally:
        console.quiet = before


@contextmanager
def held_interrupt() -> Iterator[None]:
    """A Ctrl-C that comes in here is handled at its end: rich prints again what one cut short.

    The second one is KeyboardInterrupt at once: it may be the printing that waits for ever.
    """
    handler = signal.getsignal(signal.SIGINT)
    # None: it is not Python's, and could not be put back.
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


@contextmanager
def honest_exit() -> Iterator[None]:
    """A user's mistake, a full disk: its message and exit code 2. Ctrl-C: 130. A bug: its traceback.

    Our own warnings are for users, too: without the line of code that gave them.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = once(_plainly(warnings.showwarning))
            yield
    except OtterError as exc:
        print(f"error: {exc}" if "\n" not in str(exc) else f"errors:\n{exc}", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from exc
    except OSError as exc:
        if not is_full(exc):
            raise
        print(f"error: {exc}. Make room, and give the same command again.", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from exc
    except (KeyboardInterrupt, click.Abort) as exc:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from exc


def _plainly(show: Any) -> Any:
    """`warnings.showwarning` that leaves the warnings of other packages to `show`."""
    ours = Path(__file__).parent

    def showwarning(message: Warning | str, category: type[Warning], filename: str, *place: Any) -> None:
        if ours in Path(filename).parents:
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, filename, *place)

    return showwarning
