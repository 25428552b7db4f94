"""Every class that the config may name is imported here."""

from my_project.data import Sheets
from my_project.model import ConvBackbone, CornerModel, PlaceHead, Points, SmoothL1

__all__ = ["ConvBackbone", "CornerModel", "PlaceHead", "Points", "Sheets", "SmoothL1"]
