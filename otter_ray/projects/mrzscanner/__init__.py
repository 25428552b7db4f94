"""MRZScanner: read the machine-readable zones of passports, visas and identity cards.

Every class that a config of this project may name can be imported from here.
"""

from otter_ray.projects.mrzscanner.data.crop_dataset import CropDataset
from otter_ray.projects.mrzscanner.data.photo_dataset import PhotoDataset
from otter_ray.projects.mrzscanner.data.scene_dataset import SceneDataset
from otter_ray.projects.mrzscanner.modeling.backbone import MrzBackbone
from otter_ray.projects.mrzscanner.modeling.ctc_head import CtcHead
from otter_ray.projects.mrzscanner.modeling.export_wrappers import WarpReader, WarpRegion, WarpSpotting
from otter_ray.projects.mrzscanner.modeling.grid_head import GridHead
from otter_ray.projects.mrzscanner.modeling.query_head import QueryHead
from otter_ray.projects.mrzscanner.modeling.reader import ReaderModel, SpottingModel
from otter_ray.projects.mrzscanner.modeling.region import RegionHead, RegionLoss, RegionModel
from otter_ray.projects.mrzscanner.modeling.text_loss import TextLoss
from otter_ray.projects.mrzscanner.visuals.sheets import draw_sheets
from otter_ray.vision.backbones import Backbone
from otter_ray.vision.necks import FPN, BiFPN

__all__ = [
    "FPN",
    "Backbone",
    "BiFPN",
    "CropDataset",
    "CtcHead",
    "GridHead",
    "MrzBackbone",
    "PhotoDataset",
    "QueryHead",
    "ReaderModel",
    "RegionHead",
    "RegionLoss",
    "RegionModel",
    "SceneDataset",
    "SpottingModel",
    "TextLoss",
    "WarpReader",
    "WarpRegion",
    "WarpSpotting",
    "draw_sheets",
]
