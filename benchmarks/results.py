"""What every benchmark writes beside its figures: the machine, the versions, the command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "lightning",
    "ray",
    "optuna",
    "timm",
    "albumentations",
    "onnxruntime",
    "numpy",
    "pyarrow",
)


def machine() -> dict[str, Any]:
    """Processor, cores and memory (GB) of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "memory_gb": round(memory),
    }


def keep(file: str | Path | None, name: str, figures: Any) -> None:
    """Writes figures to `file`, if one is given, with all that they depend on."""
    if file is None:
        return
    versions = {package: metadata.version(package) for package in PACKAGES}
    facts = {
        "benchmark": name, "date": date.today().isoformat(), "machine": machine(),
        "versions": {"python": platform.python_version(), **versions},
        "command": _command(), "figures": figures,
    }  # fmt: skip
    Path(file).write_text(json.dumps(facts, indent=1) + "\n")


def _command() -> str:
    """What was run, from the repository's root, without where its figures went."""
    script, *arguments = sys.argv
    if "--json" in arguments:
        at = arguments.index("--json")
        del arguments[at : at + 2]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *arguments])
