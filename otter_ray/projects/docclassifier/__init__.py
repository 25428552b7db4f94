"""DocClassifier: recognise a document by comparing embeddings. The first project of otter_ray.

Every class that a config of this project may name can be imported from here.
"""

from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset, RealDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.projects.docclassifier.modeling.clip_teacher import ClipTeacher
from otter_ray.projects.docclassifier.modeling.export_wrapper import WarpFeatureLearning
from otter_ray.projects.docclassifier.modeling.heads import (
    FeatureLearningGAPHead,
    FeatureLearningHead,
    FeatureLearningLNHead,
    FeatureLearningSqueezeHead,
    FeatureLearningSqueezeLBNHead,
)
from otter_ray.projects.docclassifier.modeling.losses import ArcFace, CosFace, PartialFC
from otter_ray.projects.docclassifier.modeling.module import ClassifierModel
from otter_ray.projects.docclassifier.visuals.sheets import draw_sheets
from otter_ray.vision.backbones import Backbone

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
