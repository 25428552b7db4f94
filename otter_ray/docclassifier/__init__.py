"""DocClassifier: recognise a document by comparing embeddings. The first project of otter_ray.

What a config's `name:` may say for this project is what stands here.
"""

from otter_ray.docclassifier.datasets import CaptureDataset, RealDataset
from otter_ray.docclassifier.heads import (
    FeatureLearningGAPHead,
    FeatureLearningHead,
    FeatureLearningLNHead,
    FeatureLearningSqueezeHead,
    FeatureLearningSqueezeLBNHead,
)
from otter_ray.docclassifier.losses import ArcFace, CosFace, PartialFC
from otter_ray.docclassifier.model import ClassifierModel
from otter_ray.docclassifier.network import Backbone, WarpFeatureLearning
from otter_ray.docclassifier.sheets import draw_sheets
from otter_ray.docclassifier.synth import SynthDataset
from otter_ray.docclassifier.teacher import ClipTeacher

__all__ = [
    "ArcFace",
    "Backbone",
    "CaptureDataset",
    "ClassifierModel",
    "ClipTeacher",
    "CosFace",
    "FeatureLearningGAPHead",
    "FeatureLearningHead",
    "FeatureLearningLNHead",
    "FeatureLearningSqueezeHead",
    "FeatureLearningSqueezeLBNHead",
    "PartialFC",
    "RealDataset",
    "SynthDataset",
    "WarpFeatureLearning",
    "draw_sheets",
]
