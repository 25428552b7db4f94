"""Lightning: any LightningModule and LightningDataModule, exactly as their authors wrote them.

A config names them by `class_path` and `init_args`, as LightningCLI does. `OWN` is what is done in another
way than for projects whose models are built of parts.
"""

from otter_ray.projects.lightning.data import Loaders
from otter_ray.projects.lightning.own import OWN

__all__ = ["OWN", "Loaders"]
