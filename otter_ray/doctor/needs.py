"""Checks of what a config needs from the machines: folders and files, a precision, the hub."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.config.user_paths import PATH_KEY
from otter_ray.doctor.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    from otter_ray.config import Config
    from otter_ray.space import SearchProblem

MAX_COUNTED = 10_000  # entries of a folder
HUB_SECONDS = 3.0
AMPERE = 8  # the compute capability from which on a GPU has bfloat16
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def data_paths(config: Config, problem: SearchProblem | None) -> dict[str, str]:
    """Map keys to folders and files of data sets and model, in the config and everything that is searched."""
    branches = [config, *(branch.config for branch in (problem.branches if problem else ()))]
    found: dict[str, str] = {}
    for branch in branches:
        data = branch.to_dict()
        # A data module of Lightning may fetch what is not there.
        for section in ("dataset", "model"):
            for key, value in _paths_in(data.get(section), section):
                if value not in found.values():
                    found[key if key not in found else f"{key} (searched)"] = value
    return found


def _paths_in(data: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            if isinstance(value, str) and value and PATH_KEY.fullmatch(name):
                yield f"{key}.{name}", value
            else:
                yield from _paths_in(value, f"{key}.{name}")


def paths(wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Check that each folder or file exists and can be read."""
    for key, value in wanted.items():
        place = Path(value).expanduser()
        if not place.exists():
            yield error(f"{key}: there is no {place.absolute()}. Mount or fetch it, or --set {key}=PATH.")
        elif not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0)):
            yield error(f"{key}: {place.absolute()} cannot be read. Make it readable for this user.")
        elif place.is_dir() and not (count := sum(1 for _ in islice(place.iterdir(), MAX_COUNTED))):
            yield error(f"{key}: {place.absolute()} is empty. Fill it, or --set {key}=PATH.")
        else:
            entries = f", {_entries(count)}" if place.is_dir() else ""
            yield ok(f"{key}: {place.absolute()}{entries}")
    if not wanted:
        yield ok("the config names no folder or file")


def _entries(count: int) -> str:
    if count == 1:
        return "1 entry"
    return f"{count} entries" + (" or more" if count == MAX_COUNTED else "")


def precision(config: Config) -> Iterator[Finding]:
    """Check that this machine's devices support the precision that the config trains in."""
    import torch

    wanted = str(config.trainer.precision)
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    if wanted.startswith("16") and not on_gpu:
        yield warning(f"trainer.precision {wanted} is for GPUs; on a CPU Lightning uses bf16-mixed. Set 32.")
    elif wanted.startswith("bf16") and on_gpu:
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            if about.major < AMPERE:
                yield warning(f"trainer.precision {wanted}: {about.name} only emulates it. Set 16-mixed.")


def hub(config: Config | None) -> Iterator[Finding]:
    """Check that pretrained weights can be downloaded. If not, it is a warning: they may be cached."""
    wants = "" if config is None else _wants(config)
    if config is not None and not wants:
        yield ok(f"{config.name} asks for no pretrained weights")
        return
    weights = f"the weights that {wants} asks for" if wants else "pretrained weights"
    cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    if offline := [
        name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
    ]:
        yield ok(f"not asked ({offline[0]} is set): {weights} must be in {cache}")
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answered
    except (OSError, ValueError) as exc:
        yield warning(
            f"{endpoint} does not answer within {HUB_SECONDS:g} s ({exc}): {weights} must be in {cache}. "
            "Download them once on a machine with a network, and set HF_HUB_OFFLINE=1; otherwise each trial "
            "waits for half a minute before it uses the cache."
        )
        return
    yield ok(f"{endpoint} answers{f' ({wants})' if wants else ''}")


def _wants(config: Config) -> str:
    """Name the keys that ask for pretrained weights; empty if none does."""
    wants = _pretrained_in(config.to_dict()["model"], "model")
    return " and ".join([*wants, *(["common.use_clip"] if config.common.use_clip else [])])


def _pretrained_in(data: Any, key: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name == "pretrained" and value is True:
                yield f"{key}.{name}"
            yield from _pretrained_in(value, f"{key}.{name}")
