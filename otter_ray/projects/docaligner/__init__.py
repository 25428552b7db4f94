"""DocAligner: find the four corners of the document in a photograph.

Every class that a config of this project may name can be imported from here.
"""

from otter_ray.projects.docaligner.data.paper_dataset import PaperDataset
from otter_ray.projects.docaligner.data.photo_dataset import PhotoDataset
from otter_ray.projects.docaligner.modeling.export_wrapper import WarpHeatmap, WarpPoints
from otter_ray.projects.docaligner.modeling.heads import HeatmapHead, PointHead
from otter_ray.projects.docaligner.modeling.losses import CornerLoss
from otter_ray.projects.docaligner.modeling.module import AlignerModel
from otter_ray.projects.docaligner.visuals.sheets import draw_sheets
from otter_ray.vision.backbones import Backbone
from otter_ray.vision.necks import FPN, BiFPN

__all__ = [
    "FPN",
    "AlignerModel",
    "Backbone",
    "BiFPN",
    "CornerLoss",
    "HeatmapHead",
    "PaperDataset",
    "PhotoDataset",
    "PointHead",
    "WarpHeatmap",
    "WarpPoints",
    "draw_sheets",
]
