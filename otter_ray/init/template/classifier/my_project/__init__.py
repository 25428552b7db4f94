"""Every class that the config may name is imported here."""

from my_project.data import Shapes
from my_project.model import ConvBackbone, CrossEntropy, LinearHead, Probabilities, ShapeModel

__all__ = ["ConvBackbone", "CrossEntropy", "LinearHead", "Probabilities", "ShapeModel", "Shapes"]
