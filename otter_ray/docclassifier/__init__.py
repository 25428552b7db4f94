"""DocClassifier: recognise a document by comparing embeddings. The first project of otter_ray.

What a config's `name:` may say for this project is what stands here.
"""

from otter_ray.docclassifier.datasets import CaptureDataset, RealDataset, SynthDataset
from otter_ray.docclassifier.losses import ArcFace, CosFace
from otter_ray.docclassifier.model import ClassifierModel
from otter_ray.docclassifier.network import Backbone, FeatureLearningSqueezeLBNHead, WarpFeatureLearning
from otter_ray.docclassifier.sheets import draw_sheets

__all__ = [
    "ArcFace",
    "Backbone",
    "CaptureDataset",
    "ClassifierModel",
    "CosFace",
    "FeatureLearningSqueezeLBNHead",
    "RealDataset",
    "SynthDataset",
    "WarpFeatureLearning",
    "draw_sheets",
]
