"""One YAML and one search space in, a verified ONNX file out.

`Study` and Otter's building blocks can be imported from here. Each is loaded when it is first used, so that
`import otter_ray` alone stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otter_ray import lazy
from otter_ray.errors import OtterError

if TYPE_CHECKING:
    from otter_ray.config import load_config
    from otter_ray.train.albumentations_mixins import BorderValueMixin, FillValueMixin
    from otter_ray.train.builders import (
        build_callback,
        build_dataset,
        build_trainer,
        load_model_from_config,
    )
    from otter_ray.train.model.module_mixin import BaseMixin
    from otter_ray.train.tracking.loggers import build_logger
    from otter_ray.tune.study import Study
else:
    __getattr__ = lazy.on_first_use(
        __name__,
        {
            "BaseMixin": "train.model.module_mixin",
            "BorderValueMixin": "train.albumentations_mixins",
            "FillValueMixin": "train.albumentations_mixins",
            "Study": "tune.study",
            "build_callback": "train.builders",
            "build_dataset": "train.builders",
            "build_logger": "train.tracking.loggers",
            "build_trainer": "train.builders",
            "load_config": "config",
            "load_model_from_config": "train.builders",
        },
    )

__version__ = "0.1.0"

__all__ = [
    "BaseMixin",
    "BorderValueMixin",
    "FillValueMixin",
    "OtterError",
    "Study",
    "build_callback",
    "build_dataset",
    "build_logger",
    "build_trainer",
    "load_config",
    "load_model_from_config",
]
