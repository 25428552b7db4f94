"""`python -m otter_ray.doctor [CFG]`: what is well, what is not, and what to do about it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import USER_ERROR, Sets, cli_errors
from otter_ray.console import plain_console

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    config: Annotated[
        str | None, typer.Argument(metavar="[CFG]", help="Name or path of a config, to check what it needs.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Name or path of a search space. \\[default: the config's name]")
    ] = None,
    sets: Sets = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Check the Ray cluster at this address, and all its nodes. 'auto' finds the local one."
        ),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Check that studies can be stored here: s3://BUCKET/PATH, or a path.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder for studies.")] = Path("runs"),
) -> None:
    """Check this machine, a cluster and a config. Each line is ok, warning or error, and says what to do.

    Examples:

      python -m otter_ray.doctor

      python -m otter_ray.doctor my_config --address auto --storage s3://BUCKET/runs

    It does not start Ray, and leaves nothing behind but decoded images in the cache. Exit codes: 0 if there
    is no error, otherwise 2.
    """
    from otter_ray.config.user_paths import user_path, user_place
    from otter_ray.doctor.diagnosis import Diagnosis

    counts: Counter[str] = Counter()
    console = plain_console()
    with cli_errors():
        place = storage and user_place(storage, "--storage")
        diagnosis = Diagnosis(config, space, sets or [], address, place, user_path(runs, "--runs"))
        for about, finding in diagnosis.findings():
            counts[finding.level] += 1
            console.print(f"{finding.level:8}", style=STYLES[finding.level], end="")
            console.print(f"{about:9} {finding.text.replace(chr(10), chr(10) + ' ' * 18)}")
    console.print(
        ", ".join(f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in ("error", "warning"))
    )
    raise typer.Exit(USER_ERROR if counts["error"] else 0)


if __name__ == "__main__":
    typer.run(doctor)
