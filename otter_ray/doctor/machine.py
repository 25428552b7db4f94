"""One machine: its packages, GPUs, limits and disks. Runs on each node of a cluster, too."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from otter_ray.doctor.finding import Finding, error, ok, warning

NAMED = ("torch", "lightning", "ray", "optuna", "onnxruntime")
DRIVER = Path("/proc/driver/nvidia/version")
SHARED_MEMORY = Path("/dev/shm")
GIB = 2**30
FEW_FILES = 8192  # Ray's own advice; it raises the limit itself, up to the hard one
LITTLE, TOO_LITTLE = 10 * GIB, GIB
LITTLE_SHARED = GIB  # batches of DataLoader workers pass through it, and Ray's objects
FULL = 0.95  # of a disk, above which Ray puts nothing there
BUSY = 0.8  # of a GPU's memory, free


def packages() -> Iterator[Finding]:
    """What otter_ray requires, against what is installed."""
    required = [Requirement(text) for text in metadata.requires("otter_ray") or ()]
    required = [entry for entry in required if not entry.marker or entry.marker.evaluate({"extra": ""})]
    wrong = {}
    for entry in required:
        found = version_of(entry.name)
        if found is None or not entry.specifier.contains(found, prereleases=True):
            wrong[f"{entry.name}{entry.specifier}"] = f"{entry.name} {found or 'missing'}"
    if wrong:
        remedy = " ".join(f"'{text}'" for text in wrong)
        yield error(f"{', '.join(wrong.values())}: too old, or not there. pip install {remedy}")
    else:
        named = ", ".join(f"{name} {version_of(name)}" for name in NAMED)
        yield ok(f"Python {platform.python_version()}, {len(required)} packages as required: {named}")
    if sys.dont_write_bytecode:
        yield warning(
            "PYTHONDONTWRITEBYTECODE is set: each worker compiles torch and ray anew, 20 s of CPU. Unset it, "
            "or run python -m compileall on site-packages once."
        )


def version_of(package: str) -> str | None:
    """Its installed version, None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def gpus() -> Iterator[Finding]:
    """Each GPU that torch sees, after a product of matrices on it."""
    import torch
    import torchvision  # noqa: F401  one that is not torch's fails here

    count = torch.cuda.device_count()
    if not count and DRIVER.exists():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        yield warning(
            f"there is an NVIDIA driver, but torch {torch.__version__} (built with {build}) sees no GPU"
            f"{f' (CUDA_VISIBLE_DEVICES is {hidden!r})' if hidden is not None else ''}: trials run on CPUs. "
            "Install a torch with CUDA that the driver knows, give a container --gpus all, or unset that."
        )
    elif not count:
        yield ok("none: trials run on CPUs")
    for index in range(count):
        yield _gpu(index)


def _gpu(index: int) -> Finding:
    import torch

    about = torch.cuda.get_device_properties(index)
    name = f"{index}: {about.name}"
    try:
        square = torch.ones(8, 8, device=f"cuda:{index}")
        assert (square @ square).sum().item() == 8**3
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as exc:
        return error(
            f"{name} (sm_{about.major}{about.minor}) does not compute: {str(exc).splitlines()[0]} Install a "
            f"torch that is built for it (not {' '.join(torch.cuda.get_arch_list())}), or renew its driver."
        )
    text = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    if free < BUSY * total:
        return warning(f"{text}: others use it. End them, or trials may run out of memory.")
    return ok(text)


def limits() -> Iterator[Finding]:
    """Open files and shared memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield warning(
            f"{hard} open files at most: Ray's connections may fail. Raise it: ulimit -n 65536, or "
            "--ulimit nofile=65536:65536 of a container."
        )
    else:
        yield ok(f"{soft} open files" + (", which Ray raises" if soft < FEW_FILES else ""))
    if not SHARED_MEMORY.is_dir():
        yield warning(f"no {SHARED_MEMORY}: Ray keeps objects in files. Mount a tmpfs there.")
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    text = f"{SHARED_MEMORY}: {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if usage.free < LITTLE_SHARED:
        yield warning(
            f"{text}: Ray gets slow, and DataLoader workers may end with a bus error. Give a container "
            "--shm-size 8g, or delete what lies there."
        )
    else:
        yield ok(text)


def disks(runs: Path | None) -> Iterator[Finding]:
    """Where studies, decoded images and Ray's files go; each disk once. None: no studies."""
    cache = Path(os.environ.get("OTTER_RAY_CACHE") or Path.home() / ".cache" / "otter_ray")
    places = {"--runs": runs, "OTTER_RAY_CACHE": cache, "TMPDIR": Path(tempfile.gettempdir())}
    known: dict[int, str] = {}
    for name, place in places.items():
        if place is None:
            continue
        folder = nearest(place)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield error(f"{name} {folder} cannot be written to. Make it writable, or name another one.")
        elif (device := folder.stat().st_dev) in known:
            yield ok(f"{name} {place}: on the disk of {known[device]}")
        else:
            known[device] = name
            yield _room(f"{name} {place}", folder)


def _room(text: str, folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    text += f": {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    another = "Make room, or name another place."
    if usage.free < TOO_LITTLE:
        return error(f"{text}. {another}")
    if usage.free < LITTLE:
        return warning(f"{text}: checkpoints and decoded images may not fit. {another}")
    if usage.free < (1 - FULL) * usage.total:
        return warning(f"{text}: Ray stores no objects on a disk that is {FULL:.0%} full. {another}")
    return ok(text)


def nearest(place: Path) -> Path:
    """The folder itself, or what there is of the way to it."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())
