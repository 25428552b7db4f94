"""Configs: YAML in, checked data out. Imports neither torch, ray nor optuna."""

from otter_ray.config.config import Config, load_config, project_here
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.config.lookup import find_config, find_space, is_own_project, is_trusted
from otter_ray.config.schema import Component, LrScheduler
from otter_ray.config.yaml_writer import to_yaml
from otter_ray.redaction import redacted

__all__ = [
    "Component",
    "Config",
    "LightningConfig",
    "LrScheduler",
    "find_config",
    "find_space",
    "is_own_project",
    "is_trusted",
    "load_config",
    "project_here",
    "redacted",
    "to_yaml",
]
