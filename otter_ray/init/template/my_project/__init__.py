"""What the config's `name:` may say stands here."""

from my_project.data import Shapes
from my_project.model import ConvBackbone, CrossEntropy, LinearHead, Probabilities, ShapeModel

__all__ = ["ConvBackbone", "CrossEntropy", "LinearHead", "Probabilities", "ShapeModel", "Shapes"]
