"""Configs and search spaces: YAML in, checked data out. Imports neither torch, ray nor optuna."""

from otter_ray.config.constraint import FIGURES, Constraint
from otter_ray.config.dump import space_to_yaml, to_yaml
from otter_ray.config.lookup import find_config, find_space
from otter_ray.config.model import Config, load_config
from otter_ray.config.parameter import Parameter
from otter_ray.config.schema import Component, LrScheduler
from otter_ray.config.secrets import redacted
from otter_ray.config.space import Space
from otter_ray.config.space_check import check_space
from otter_ray.config.space_file import load_space
from otter_ray.config.study import StudyOptions

__all__ = [
    "FIGURES",
    "Component",
    "Config",
    "Constraint",
    "LrScheduler",
    "Parameter",
    "Space",
    "StudyOptions",
    "check_space",
    "find_config",
    "find_space",
    "load_config",
    "load_space",
    "redacted",
    "space_to_yaml",
    "to_yaml",
]
