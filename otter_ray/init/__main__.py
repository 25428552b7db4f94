"""`python -m otter_ray.init NAME`: a new project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import honest_exit


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's: a Python package's name.")],
) -> None:
    """Make a new project in a folder NAME: package, config, search space and a test that passes at once.

    Examples:

      python -m otter_ray.init my_project

      cd my_project && python -m pytest
    """
    from otter_ray.init.project import create_project

    with honest_exit():
        create_project(name, Path(name))
        typer.echo(f"made {name}/. What to do there:")
        typer.echo(f"  cd {name}")
        typer.echo("  python -m pytest                         # it passes as it is")
        typer.echo(f"  python -m otter_ray.train {name}         # one run")
        typer.echo(f"  python -m otter_ray.tune {name}          # a search, and a proven ONNX file")
        typer.echo("What to change for your own data and model: README.md there, docs/your-project.md here.")


if __name__ == "__main__":
    typer.run(init)
