"""`otter-ray COMMAND` and `python -m otter_ray COMMAND`: every command behind one name."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

import otter_ray

PROGRAM = "otter-ray"
COMMANDS = ("tune", "train", "export", "report", "studies", "doctor", "init")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, by the function that `python -m otter_ray.COMMAND` runs.

    Only that command's package is imported. A group of typer's would import them all, and pydantic before
    the command's own arguments are read.
    """
    # As `python -m` does: a config's project may be a package in the current folder.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        command = typer.Typer(add_completion=False)
        add(command, given[0])
        command(given[1:], prog_name=f"{PROGRAM} {given[0]}")
    else:
        overview()(given, prog_name=PROGRAM)


def add(app: typer.Typer, name: str) -> None:
    """Add a command to an app."""
    app.command(name)(getattr(import_module(f"otter_ray.{name}.__main__"), name))


def overview() -> typer.Typer:
    """Return the app that knows every command and the options without one."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_otter_ray)
    for name in COMMANDS:
        add(app, name)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {otter_ray.__version__}")
        raise typer.Exit


def _otter_ray(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One YAML and one search space in, a verified ONNX file out.

    `otter-ray COMMAND` is the same as `python -m otter_ray.COMMAND`. To see what a command accepts:

      otter-ray COMMAND --help
    """


if __name__ == "__main__":
    main()
