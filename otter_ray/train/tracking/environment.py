"""What a run or a study writes down about the machine and the packages that it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from otter_ray.files import atomic_write
from otter_ray.redaction import redacted
from otter_ray.train.registry import PROJECTS, load_project


def write_environment(folder: Path, project: str) -> None:
    """Write `environment.json`: what is needed to repeat a run or a study of a config's project."""
    code = _folder_of(project)
    environment = {
        "command": [sys.executable, *map(redacted, sys.orig_argv[1:])],
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_revision": _git_revision(Path(__file__).parent),
        "project": {"name": project, "folder": str(code), "git_revision": _git_revision(code)},
        "system": {
            "platform": platform.platform(),
            "host": platform.node(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "packages": _packages(),
    }
    with atomic_write(folder / "environment.json") as partial:
        partial.write_text(json.dumps(environment, indent=2) + "\n")


def _packages() -> dict[str, str]:
    """Return each package's version: of the first one on the path, which is what an import finds."""
    found = {entry.name: entry.version for entry in reversed(list(metadata.distributions())) if entry.name}
    return dict(sorted(found.items()))


def _gpu(index: int) -> dict[str, Any]:
    about = torch.cuda.get_device_properties(index)
    return {
        "name": about.name,
        "memory_bytes": about.total_memory,
        "capability": f"{about.major}.{about.minor}",
    }


def _processor() -> str:
    """Return the CPU's name, which Linux only gives in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _folder_of(project: str) -> Path:
    """Return where the user's code is; with a project of otter_ray's own it is where the config is."""
    module = load_project(project)
    is_ours = module.__name__.startswith(f"{PROJECTS}.") or module.__file__ is None
    return Path.cwd() if is_ours else Path(str(module.__file__)).resolve().parent


def _git_revision(code: Path) -> str | None:
    """Return the revision of the code in a folder; None if no repository tracks it, or without git."""

    def git(*arguments: str) -> str:
        line = ["git", *arguments]
        answer = subprocess.run(line, cwd=code, capture_output=True, text=True, check=True, timeout=10)
        return answer.stdout.strip()

    try:
        # A package that is installed inside somebody's repository is not part of that repository.
        git("ls-files", "--error-unmatch", ".")
        return git("describe", "--always", "--dirty= (uncommitted changes)", "--abbrev=40")
    except (OSError, subprocess.SubprocessError):
        return None
