"""Checks of one machine: packages, GPUs, limits and disks. They also run on each node of a cluster."""

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

from otter_ray.disk import nearest_folder
from otter_ray.doctor.finding import Finding, error, ok, warning
from otter_ray.formatting import GIB
from otter_ray.user_folders import (
    RAY_TMPDIR,
    TMPDIR,
    fault_of,
    fault_of_name,
    private_folder,
    use_sound_folders,
)

# Packages that are named, and by which the nodes of a cluster are compared.
COMPARED = ("torch", "lightning", "ray", "optuna", "onnxruntime")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
SHARED_MEMORY = Path("/dev/shm")
MIN_OPEN_FILES = 8192  # Ray's own advice; it raises the limit itself, up to the hard one
# Free space of a disk below which there is a warning, and an error.
ADVISED_SPACE, MIN_SPACE = 10 * GIB, GIB
MIN_SHARED_MEMORY = GIB  # batches of DataLoader workers pass through it, and Ray's objects
RAY_FULL = 0.95  # share of a disk in use above which Ray stores nothing there
MIN_FREE_GPU = 0.8  # share of a GPU's memory


def packages() -> Iterator[Finding]:
    """Compare what otter_ray requires with what is installed."""
    required = [Requirement(text) for text in metadata.requires("otter_ray") or ()]
    required = [entry for entry in required if not entry.marker or entry.marker.evaluate({"extra": ""})]
    wrong = {}
    for entry in required:
        found = version_of(entry.name)
        if found is None or not entry.specifier.contains(found, prereleases=True):
            wrong[f"{entry.name}{entry.specifier}"] = f"{entry.name} {found or 'missing'}"
    if wrong:
        remedy = " ".join(f"'{text}'" for text in wrong)
        yield error(f"{', '.join(wrong.values())}: too old or missing. Run pip install {remedy}")
    else:
        named = ", ".join(f"{name} {version_of(name)}" for name in COMPARED)
        yield ok(f"Python {platform.python_version()}, {len(required)} packages as required: {named}")
    if sys.dont_write_bytecode:
        yield warning(
            "PYTHONDONTWRITEBYTECODE is set: each worker compiles torch and ray again, which takes "
            "20 s of CPU time. Unset it, or run python -m compileall on site-packages once."
        )


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def gpus() -> Iterator[Finding]:
    """Multiply matrices on each GPU that torch sees."""
    import torch
    import torchvision  # noqa: F401  one built for another torch fails here

    count = torch.cuda.device_count()
    if not count and NVIDIA_DRIVER.exists():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        yield warning(
            f"there is an NVIDIA driver, but torch {torch.__version__} (built with {build}) sees no GPU"
            f"{f' (CUDA_VISIBLE_DEVICES is {hidden!r})' if hidden is not None else ''}: trials run on CPUs. "
            "Install a torch with CUDA that the driver supports, start a container with --gpus all, or unset "
            "CUDA_VISIBLE_DEVICES."
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
            f"torch that is built for it (not {' '.join(torch.cuda.get_arch_list())}), or update its driver."
        )
    text = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    if free < MIN_FREE_GPU * total:
        return warning(f"{text}: other programs use it. End them, or trials may run out of memory.")
    return ok(text)


def limits() -> Iterator[Finding]:
    """Check the limit of open files and the size of the shared memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        yield warning(
            f"{hard} open files at most, so Ray's connections may fail. Raise the limit: ulimit -n 65536, or "
            "start a container with --ulimit nofile=65536:65536."
        )
    else:
        yield ok(f"{soft} open files" + (", which Ray raises" if soft < MIN_OPEN_FILES else ""))
    if not SHARED_MEMORY.is_dir():
        yield warning(f"there is no {SHARED_MEMORY}, so Ray keeps objects in files. Mount a tmpfs there.")
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    text = f"{SHARED_MEMORY}: {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if usage.free < MIN_SHARED_MEMORY:
        yield warning(
            f"{text}: Ray becomes slow, and DataLoader workers may end with a bus error. Start a container "
            "with --shm-size 8g, or delete files there."
        )
    else:
        yield ok(text)


def user_folders() -> Iterator[Finding]:
    """Check the home and the temporary folder, and use what a study would use in their place."""
    given = {name: os.environ[name] for name in (TMPDIR, RAY_TMPDIR) if name in os.environ}
    use_sound_folders()  # its warnings are findings, too
    for name, folder in given.items():
        if fault_of(folder) is None:
            about = fault_of_name(folder)
            yield ok(f"{name} {folder}" + (f" {about}: used through {os.environ[name]}" if about else ""))
    if fault := fault_of(str(nearest_folder(Path.home()))):
        elsewhere = f"Ray's token is kept in {private_folder()} and pretrained weights nowhere"
        yield warning(f"HOME: {Path.home()} {fault}: {elsewhere}. Set HOME, or HF_HOME and OTTER_RAY_CACHE.")
    else:
        yield ok(f"HOME {Path.home()}")


def disks(runs: Path | None) -> Iterator[Finding]:
    """Check the disks for studies, decoded images and Ray's files, each disk once.

    Args:
        runs: Folder for studies; None if they are not stored on this machine.
    """
    cache = Path(os.environ.get("OTTER_RAY_CACHE") or Path.home() / ".cache" / "otter_ray")
    places = {"--runs": runs, "OTTER_RAY_CACHE": cache, "TMPDIR": Path(tempfile.gettempdir())}
    known: dict[int, str] = {}
    for name, place in places.items():
        if place is None:
            continue
        folder = nearest_folder(place)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield error(f"{name} {folder} cannot be written to. Make it writable, or name another folder.")
        elif (device := folder.stat().st_dev) in known:
            yield ok(f"{name} {place}: on the disk of {known[device]}")
        else:
            known[device] = name
            yield _disk_space(f"{name} {place}", folder)


def _disk_space(text: str, folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    text += f": {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    remedy = "Free some space, or name another folder."
    if usage.free < MIN_SPACE:
        return error(f"{text}. {remedy}")
    if usage.free < ADVISED_SPACE:
        return warning(f"{text}: checkpoints and decoded images may not fit. {remedy}")
    if usage.free < (1 - RAY_FULL) * usage.total:
        return warning(f"{text}: Ray stores no objects on a disk that is {RAY_FULL:.0%} full. {remedy}")
    return ok(text)
