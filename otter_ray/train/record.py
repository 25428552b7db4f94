"""What a run writes down about itself: the machine, the packages, the model's figures."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from otter_ray.config import Config, redacted


def write_environment(folder: Path) -> None:
    """`environment.json`: what someone needs who wants to repeat a run or a study."""
    facts = {
        "command": [sys.executable, *map(redacted, sys.orig_argv[1:])],
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
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
    (folder / "environment.json").write_text(json.dumps(facts, indent=2) + "\n")


def write_figures(config: Config, model: nn.Module, folder: Path) -> None:
    """`model.json`: the figures of one input's forward pass, and the parameters of each part."""
    inputs = [torch.zeros(1, 3, *config.common.image_size)]
    if config.onnx is not None:
        inputs = [torch.zeros(1, *shape.shape[1:]) for shape in config.onnx.input_shape.values()]
    parts = {name: _parameters(part) for name, part in model.named_children() if _parameters(part)}
    facts = {**model_figures(model, inputs), "parameters_of": parts}
    (folder / "model.json").write_text(json.dumps(facts, indent=2) + "\n")


def model_figures(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, int]:
    """FLOPs and MACs of one forward pass (matrix products and convolutions), and the number of parameters."""
    training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    model.train(training)
    flops = counter.get_total_flops()
    return {"flops": flops, "macs": flops // 2, "parameters": _parameters(model)}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _packages() -> dict[str, str]:
    """Name and version of each package: the first on the path, which is what an import finds."""
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
    """The CPU's name; Linux tells it in a file alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git_revision() -> str | None:
    """The revision of the code at hand, None outside a repository or without git."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
