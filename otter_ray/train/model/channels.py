"""The order of the colour channels in which an exported model takes images.

Training is on RGB. A program that reads images with OpenCV has BGR: the file that
`onnx.wrapper_options: {channels: bgr}` makes takes them as they are.
"""

from __future__ import annotations

import inspect
from typing import Final

from torch import Tensor

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.train.registry import by_project, find_class

OPTION: Final = "channels"  # in onnx.wrapper_options
RGB: Final = "rgb"
BGR: Final = "bgr"


@by_project
def exported_channels(config: Config) -> str | None:
    """Return the order in which the config's exported model takes images; None if its wrapper has no choice.

    A project's wrapper may mean something else by `channels`, such as a number: then its default is no order.

    Raises:
        ConfigError: The config names an order that there is not.
        LookupError: There is no such wrapper.
    """
    if config.onnx is None:
        return None
    wrapper = find_class(config.onnx.name, "wrapper", config.project)
    choice = inspect.signature(wrapper).parameters.get(OPTION)
    if choice is None or choice.default not in (RGB, BGR):
        return None
    order = config.onnx.wrapper_options.get(OPTION, choice.default)
    if order not in (RGB, BGR):
        message = f"{order!r} is not an order of colour channels. Give {RGB} or {BGR}."
        raise ConfigError([config.problem(f"onnx.wrapper_options.{OPTION}", message)])
    return str(order)


def reordered(images: Tensor, channels: str | None) -> Tensor:
    """Return RGB images `[N, 3, H, W]` in that order, or images in that order as RGB."""
    return images.flip(1) if channels == BGR else images
