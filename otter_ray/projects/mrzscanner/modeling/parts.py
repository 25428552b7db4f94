"""Build the parts of a model that a config names."""

from __future__ import annotations

import torch
from torch import nn

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.projects.mrzscanner.text.keys import KeyTable
from otter_ray.train.builders import build_part
from otter_ray.train.registry import accepted, find_class


def build_neck(config: Config, backbone: nn.Module) -> nn.Module:
    """Build the neck for a backbone's feature maps; without one they stay as they are."""
    section = config.model.neck
    if section is None:
        return nn.Identity()
    cls = find_class(section.name, "neck", config.project)
    channels = [channels for channels, *_ in _map_shapes(config, backbone)]
    neck: nn.Module = build_part(config, "neck", accepted(cls, {"in_channels": channels}) | section.options)
    return neck


def head_options(config: Config, levels: nn.Module, keys: KeyTable | None = None) -> dict[str, object]:
    """Return the head's options, and what it accepts of what the feature maps are like.

    Args:
        config: The config.
        levels: Returns the feature maps of an image, the finest first.
        keys: The keys of the text, for a head that reads.

    Raises:
        ConfigError: There are no feature maps for images of this size.
    """
    shapes = _map_shapes(config, levels)
    facts = {
        "in_dim": shapes[0][0],
        "map_size": shapes[0][1:],
        "in_dims": [channels for channels, *_ in shapes],
        "map_sizes": [size for _, *size in shapes],
        "keys": keys,
    }
    cls = find_class(config.model.head.name, "head", config.project)
    return accepted(cls, facts) | config.model.head.options


def _map_shapes(config: Config, levels: nn.Module) -> list[tuple[int, int, int]]:
    """Return (channels, height, width) of each feature map: only running the model tells."""
    size = config.common.image_size
    blank = next(levels.parameters()).new_zeros(1, 3, *size)
    was_training = levels.training
    try:
        with torch.no_grad():
            maps = levels.eval()(blank)
    except (RuntimeError, ValueError) as exc:
        reason = str(exc).splitlines()[0]
        message = f"images of {'x'.join(map(str, size))} px give no feature maps: {reason}"
        raise ConfigError([config.problem("model.backbone", message)]) from exc
    finally:
        levels.train(was_training)
    return [(int(level.shape[1]), int(level.shape[2]), int(level.shape[3])) for level in maps]
