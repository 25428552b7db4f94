"""DocClassifier with a loss of our own: whatever a config names is looked up here."""

import torch
from torch import Tensor

from otter_ray.projects.docclassifier import *  # noqa: F403  (its data sets, backbones and heads)
from otter_ray.projects.docclassifier import PartialFC


class MixedMargin(PartialFC):
    """Half of the margin is added to the angle, and half is taken from the cosine."""

    def margin(self, target: Tensor) -> Tensor:
        angle = torch.acos(target.clamp(-1 + 1e-6, 1 - 1e-6))
        return torch.cos(angle + self.m / 2) - self.m / 2
