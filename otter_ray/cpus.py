"""How many CPUs there are. Imports nothing: a study asks before it imports torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" or "max PERIOD", in microseconds


def available_cpus() -> int:
    """CPUs that this process may run on: by its affinity, and by its container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, _quota(CGROUP))))


def loader_workers(wanted: int, cpus: int) -> int:
    """Return the workers of a loader that asks for `wanted` in a run on `cpus` CPUs, one of which trains."""
    return min(wanted, max(cpus - 1, 0))


def _quota(file: Path) -> float:
    """CPUs that a cgroup (version 2) may use at once; infinite without a limit."""
    if not file.is_file():
        return math.inf
    microseconds, period = file.read_text().split()
    return math.inf if microseconds == "max" else int(microseconds) / int(period)
