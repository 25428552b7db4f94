"""Prints constraints.txt as a base image needs it: a torch that the base brings is the one that stays.

NVIDIA's torch is built for the CUDA beside it and is on no package index. Its version takes the place of
ours, as do the versions of what was built with it; the CUDA packages that our torch would need are left out.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BUILT_TOGETHER = ("torch", "torchvision", "triton")
CUDA_PACKAGE = re.compile(r"(nvidia|cuda)-")


def for_base(constraints: list[str], brought: dict[str, str]) -> list[str]:
    """Return the constraints for a base that brings these versions; all of them when it brings no torch."""
    if "torch" not in brought:
        return constraints
    kept = [line for line in constraints if not CUDA_PACKAGE.match(line) and name(line) not in BUILT_TOGETHER]
    return [*kept, *(f"{package}=={release}" for package, release in brought.items())]


def name(line: str) -> str:
    """Return the package that a line constrains."""
    return re.split(r"[=<>!~; ]", line, maxsplit=1)[0]


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Those of the packages that this Python has, with their versions."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    print(*for_base(Path(sys.argv[1]).read_text().splitlines(), installed(BUILT_TOGETHER)), sep="\n")
