"""Every class that the config may name is imported here."""

from my_project.data import Numbers
from my_project.model import ConvBackbone, CrossEntropy, PlacesHead, Text, TextModel

__all__ = ["ConvBackbone", "CrossEntropy", "Numbers", "PlacesHead", "Text", "TextModel"]
