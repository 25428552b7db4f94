"""Model statistics: what one forward pass costs, and how many parameters each part has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from otter_ray.config import Config
from otter_ray.train.model.example_inputs import model_inputs
from otter_ray.train.registry import by_project


@by_project
def write_model_stats(config: Config, model: nn.Module, folder: Path) -> None:
    """Write `model.json`: the statistics for one input, and the parameters of each part."""
    parts = {name: _parameters(part) for name, part in model.named_children() if _parameters(part)}
    stats = {**model_stats(model, model_inputs(config, 1)), "parameters_of": parts}
    (folder / "model.json").write_text(json.dumps(stats, indent=2) + "\n")


def model_stats(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, int]:
    """Count FLOPs and MACs of one forward pass (matrix products and convolutions), and parameters."""
    trained = [each for each in model.parameters() if each.requires_grad]
    training = [(module, module.training) for module in model.modules()]
    try:
        # If a module is given a view of a parameter, as in PiT, the counter's hooks fail in no_grad alone.
        for parameter in trained:
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(*inputs)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(training[0][1])
        for module, mode in training:  # a part that is frozen may be in another mode than the whole
            module.training = mode
    flops = counter.get_total_flops()
    return {"flops": flops, "macs": flops // 2, "parameters": _parameters(model)}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
