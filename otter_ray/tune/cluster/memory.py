"""Whether this machine has the memory that a study needs to start."""

from __future__ import annotations

from pathlib import Path

from otter_ray.errors import StudyError
from otter_ray.formatting import MIB

# Ray's processes, and one import of torch.
NEEDED = 1024 * MIB
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of a container (version 2)
CACHED = ("active_file", "inactive_file", "slab_reclaimable")


def check_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> None:
    """Check that enough memory is free. Without it, the system ends some process, and does not say why.

    Raises:
        StudyError: It is not.
    """
    free = min(_available(meminfo), _left(cgroup))
    if free < NEEDED:
        raise StudyError(
            f"memory: {free // MIB} MiB are free, and a study needs {NEEDED // MIB} MiB to start. End other "
            "programs, or give the container or the machine more."
        )


def _available(meminfo: Path) -> int:
    """Return the bytes that are available without swapping; those needed where the system does not say."""
    if not meminfo.is_file():
        return NEEDED
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else NEEDED


def _left(cgroup: Path) -> int:
    """Return the bytes that a container may still use; those needed if it has no limit.

    What is cached can be let go, and does not count as used.
    """
    limit, used, stat = (cgroup / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not limit.is_file() or (text := limit.read_text().strip()) == "max":
        return NEEDED
    fields = dict(line.split() for line in stat.read_text().splitlines())
    return int(text) - int(used.read_text()) + sum(int(fields.get(name, 0)) for name in CACHED)
