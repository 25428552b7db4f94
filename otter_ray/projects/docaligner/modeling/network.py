"""Backbone, neck and head of DocAligner as a config names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.projects.docaligner.modeling.heads import Prediction
from otter_ray.train.builders import backbone_options, build_part
from otter_ray.train.registry import accepted, find_class
from otter_ray.vision.backbones import Backbone

# The neck begins with the first of the backbone's maps that is at least this many times smaller.
FINEST = 4


class Network(nn.Module):
    """Backbone, neck and head.

    Raises:
        ConfigError: One of them contradicts another or the images' size, or a class refuses its options.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        section = config.model
        self.backbone: Backbone = build_part(config, "backbone", backbone_options(config))
        reductions = list(self.backbone.reductions)
        self.levels = _levels(config, reductions)
        channels = [self.backbone.channels[level] for level in self.levels]
        head = find_class(section.head.name, "head", config.project)
        every = [*range(len(self.levels))]
        read = head.reads(len(every), section.head.options) if hasattr(head, "reads") else every
        self.neck: nn.Module = nn.Identity()
        if section.neck is not None:
            neck = find_class(section.neck.name, "neck", config.project)
            offered = accepted(neck, {"in_channels": channels, "read": read})
            self.neck = build_part(config, "neck", offered | section.neck.options)
            channels = list(self.neck.channels)  # type: ignore[arg-type]
            every = getattr(self.neck, "read", every)
        elif every[-1] not in read:
            message = (
                f"null, but {section.head.name} with these options reads only the backbone's finest map, so "
                "that nothing trains the layers after it. Give FPN or BiFPN, or set "
                "model.head.options.has_object to true."
            )
            raise ConfigError([config.problem("model.neck", message)])
        kept = [reductions[self.levels[level]] for level in every]
        height, width = config.common.image_size
        facts = {
            "in_channels": channels,
            "reductions": kept,
            "map_sizes": [(height // reduction, width // reduction) for reduction in kept],
        }
        self.head: nn.Module = build_part(config, "head", accepted(head, facts) | section.head.options)

    def forward(self, img: Tensor) -> Prediction:
        """Return the head's prediction for images `[N, 3, H, W]` in [0, 1]."""
        features = self.backbone(img)
        prediction: Prediction = self.head(self.neck([features[level] for level in self.levels]))
        return prediction


def build_loss(config: Config) -> Any:
    """Build the config's loss."""
    return build_part(config, "loss", config.model.loss.arguments)


def _levels(config: Config, reductions: Sequence[int]) -> list[int]:
    """Return which of the backbone's maps the neck gets."""
    height, width = config.common.image_size
    if height % reductions[-1] or width % reductions[-1]:
        message = (
            f"{height}x{width} is not divisible by {reductions[-1]}, by which the backbone's coarsest map is "
            f"smaller than the image. Give multiples of {reductions[-1]}."
        )
        raise ConfigError([config.problem("common.image_size", message)])
    downscale = config.model.head.options.get("downscale", FINEST)
    if isinstance(downscale, int) and 0 < downscale < reductions[0]:
        message = (
            f"{downscale} is finer than the backbone's finest map, which is {reductions[0]} times smaller "
            f"than the image. Give at least {reductions[0]}."
        )
        raise ConfigError([config.problem("model.head.options.downscale", message)])
    finest = max(FINEST, downscale if isinstance(downscale, int) else FINEST)
    levels = [level for level, reduction in enumerate(reductions) if reduction >= finest]
    if not levels:
        message = (
            f"no map of the backbone is at least {finest} times smaller than the image, so that the neck has "
            f"no level. Its maps are {', '.join(map(str, reductions))} times smaller. Choose another "
            "backbone, or a lower model.head.options.downscale."
        )
        raise ConfigError([config.problem("model.neck", message)])
    return levels
