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


def _quota(file: Path) -> float:
    """CPUs that a cgroup (version 2) may use at once; infinite without a limit."""
    if not file.is_file():
        return math.inf
    microseconds, period = file.read_text().split()
    return math.inf if microseconds == "max" else int(microseconds) / int(period)
