"""`python -m otter_ray.doctor [CFG]`: what is well, what is not, and the remedy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from otter_ray.cli import USER_ERROR, Sets, honest_exit, plain_console

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    config: Annotated[
        str | None, typer.Argument(metavar="[CFG]", help="A config's name or path, to look at what it needs.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="A search space's name or path. Default: the config's.")
    ] = None,
    sets: Sets = None,
    address: Annotated[
        str | None, typer.Option(help="Look at the Ray there ('auto': this machine's), and at all its nodes.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where studies are to be kept, too: s3://BUCKET/PATH, or a path.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("runs"),
) -> None:
    """Look over this machine, a cluster and a config: each line is ok, warning or error, with the remedy.

    Examples:

      python -m otter_ray.doctor

      python -m otter_ray.doctor my_config --address auto --storage s3://BUCKET/runs

    It starts no Ray and leaves nothing behind. Exit codes: 0 no error, 2 some.
    """
    from otter_ray.doctor.case import Case

    counts: Counter[str] = Counter()
    console = plain_console()
    with honest_exit():
        case = Case(config, space, sets or [], address, storage, runs)
        for about, finding in case.findings():
            counts[finding.level] += 1
            console.print(f"{finding.level:8}", style=STYLES[finding.level], end="")
            console.print(f"{about:9} {finding.text.replace(chr(10), chr(10) + ' ' * 18)}")
    console.print(
        ", ".join(f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in ("error", "warning"))
    )
    raise typer.Exit(USER_ERROR if counts["error"] else 0)


if __name__ == "__main__":
    typer.run(doctor)
