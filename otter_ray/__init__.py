"""One YAML + one search space in, a proven ONNX file out.

Otter's building blocks can be imported from here; each is loaded at its first use, so that
`import otter_ray` alone stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otter_ray.config import load_config
    from otter_ray.train.augment import BorderValueMixin, FillValueMixin
    from otter_ray.train.builders import (
        build_callback,
        build_dataset,
        build_logger,
        build_trainer,
        load_model_from_config,
    )
    from otter_ray.train.mixin import BaseMixin

__version__ = "0.1.0"

__all__ = [
    "BaseMixin",
    "BorderValueMixin",
    "FillValueMixin",
    "build_callback",
    "build_dataset",
    "build_logger",
    "build_trainer",
    "load_config",
    "load_model_from_config",
]

_MODULES = {
    "BaseMixin": "train.mixin",
    "BorderValueMixin": "train.augment",
    "FillValueMixin": "train.augment",
    "load_config": "config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'train.builders')}"), name)
