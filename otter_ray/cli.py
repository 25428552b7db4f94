"""What the commands share: options that look the same everywhere, and how errors end them."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from otter_ray.console import lasting_streams
from otter_ray.disk import is_disk_full
from otter_ray.errors import OtterError
from otter_ray.redaction import safe_text
from otter_ray.warn import warnings_for_users

USER_ERROR, INTERRUPTED = 2, 130
# Errors of a path that are the user's to fix: a folder in place of a file, no right to write, and so on.
UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}


def complete_config(incomplete: str) -> list[str]:
    """Return the names of configs that begin so, for the shell."""
    return _completed("configs", incomplete)


def complete_space(incomplete: str) -> list[str]:
    """Return the names of search spaces that begin so, for the shell."""
    return _completed("search_spaces", incomplete)


def _completed(folder: str, incomplete: str) -> list[str]:
    from otter_ray.config.lookup import known_names

    return [name for name in known_names(folder) if name.startswith(incomplete)]


ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CFG",
        help="Name (in configs/) or path of the config's YAML file.",
        autocompletion=complete_config,
    ),
]

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key of the config. Can be given several times."
    ),
]

SpaceSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set-space",
        metavar="KEY=VALUE",
        help="Override one key of the search space, such as study.retries. Can be given several times.",
    ),
]


@contextmanager
def cli_errors() -> Iterator[None]:
    """End a command the way a user needs it: exit code and message instead of a traceback.

    A mistake of the user, a full disk or a path that cannot be used prints its message and exits with code 2.
    Ctrl-C exits with code 130. A bug keeps its traceback. Warnings of otter_ray are printed without the line
    of code that issued them.
    """
    lasting_streams()
    try:
        with warnings_for_users():
            yield
    except OtterError as exc:
        message = str(exc)
        _print_error(f"error: {message}" if "\n" not in message else f"errors:\n{message}")
        raise typer.Exit(USER_ERROR) from exc
    except OSError as exc:
        if is_disk_full(exc):
            message = f"{exc}. Free some space, then run the same command again."
        elif exc.errno in UNUSABLE and exc.filename is not None:
            file = exc.filename2 or exc.filename  # of two, the one that a file is moved to
            message = f"{file}: cannot be used: {exc.strerror}. Check its kind, owner and permissions."
        else:
            raise
        _print_error(f"error: {message}")
        raise typer.Exit(USER_ERROR) from exc
    except (KeyboardInterrupt, typer.Abort) as exc:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from exc


def _print_error(text: str) -> None:
    """Print a message that may quote text from anywhere: without control characters and secrets."""
    print(safe_text(text), file=sys.stderr)
