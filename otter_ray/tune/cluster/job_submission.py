"""A study as a submitted job of a cluster: its code travels to the nodes, and what it writes is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Both are set for what `ray job submit` runs, and RAY_ADDRESS then is the cluster's own.
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
ADDRESS = "RAY_ADDRESS"


def job_address() -> str | None:
    """Return the address of the Ray that this process is a submitted job of; None if it is not one."""
    return os.environ.get(ADDRESS) if JOB in os.environ else None


def persistent_path(runs: Path) -> Path:
    """Return `runs`; in a submitted job relative to the home folder, because Ray deletes the job's own."""
    return Path.home() / runs if job_address() else runs


def code_of(project: str) -> list[str]:
    """Return the project's packages and modules below the working directory, for Ray's `py_modules`.

    Installed packages are not among them. Ray itself copies the whole working directory of a submitted job.
    """
    from otter_ray.train.registry import load_project

    load_project(project)
    if job_address():
        return []
    here = Path.cwd()
    sources = {name: _source(name) for name in {name.partition(".")[0] for name in sys.modules}}
    return sorted(
        str(source)
        for name, source in sources.items()
        if source is not None and name != "__main__" and _is_own(source, here)
    )


def _source(name: str) -> Path | None:
    """Return the folder of a package or the file of a module; None if it is built in or compiled."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        return None
    return Path(file).parent if hasattr(module, "__path__") else Path(file)


def _is_own(source: Path, here: Path) -> bool:
    return source.is_relative_to(here) and "site-packages" not in source.parts
