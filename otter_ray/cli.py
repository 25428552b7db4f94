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
        with held_interrupts():
            console.print(text, style=style)
    finally:
        console.quiet = before


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come in here are handled at its end: rich prints again what one cut short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    # None: a handler that is not Python's, and cannot be put back.
    held = [signum for signum in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(signum) is not None]
    before = [signal.signal(signum, lambda signum, _: came.append(signum)) for signum in held]
    try:
        yield
    finally:
        for signum, handler in zip(held, before, strict=True):
            signal.signal(signum, handler)
        for late in came:
            signal.raise_signal(late)


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
