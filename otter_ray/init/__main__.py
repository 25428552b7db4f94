"""`python -m otter_ray.init NAME`: a new project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import cli_errors


def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the new project and of its Python package, for example my_project."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--like",
            metavar="KIND",
            help="Kind of project: classifier, embedding (finds similar images), corners (finds points) or "
            "text (reads).",
        ),
    ] = "classifier",
) -> None:
    """Make a new project in a folder NAME: a package, a config, a search space and a test that passes.

    Examples:

      python -m otter_ray.init my_project

      cd my_project && python -m pytest

      python -m otter_ray.init my_reader --like text
    """
    from otter_ray.init.project import create_project

    with cli_errors():
        create_project(name, Path(name), kind)
        typer.echo(f"made {name}/. What to do there:")
        typer.echo(f"  cd {name}")
        for command, purpose in (
            ("python -m pytest", "it passes as it is"),
            (f"python -m otter_ray.train {name}", "one run"),
            (f"python -m otter_ray.tune {name}", "a search, and a verified ONNX file"),
        ):
            typer.echo(f"  {command:{len(name) + 28}}  # {purpose}")
        typer.echo(
            "What to change for your own data and model: README.md there, docs/reference/project.md here."
        )


if __name__ == "__main__":
    typer.run(init)
