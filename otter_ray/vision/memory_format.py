"""The memory layout in which a model trains fastest on a CPU, unless one of its operators is broken there."""

from __future__ import annotations

import torch
from torch import nn

VECTOR = 16  # float32 in the widest register of a CPU


def fast_memory_format(model: nn.Module) -> torch.memory_format:
    """Return `channels_last`, unless an operator of the model overwrites memory in it.

    On a CPU a training step of LCNet-050 takes 0.6 of the time in it; weights and results are the same.
    """
    is_broken = any(_overwrites_memory(module) for module in model.modules())
    return torch.contiguous_format if is_broken else torch.channels_last


def _overwrites_memory(module: nn.Module) -> bool:
    """Return whether a layer's backward pass writes beyond its buffers.

    docs/contributing/upstream-notes.md has the program that shows it.

    Torch 2.15 on a CPU: the gradient of the weights of a convolution of one cell with a stride, if its
    channels do not fill a vector, such as those of an image in the stem of RepVGG, MobileOne and FastViT.
    """
    return (
        isinstance(module, nn.Conv2d)
        and set(module.kernel_size) == {1}
        and max(module.stride) > 1
        and module.groups == 1
        and 1 < module.in_channels < VECTOR
    )
