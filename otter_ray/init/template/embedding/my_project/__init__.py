"""Every class that the config may name is imported here."""

from my_project.data import Marks
from my_project.model import ConvBackbone, CosineSoftmax, Embedding, EmbeddingHead, EmbeddingModel

__all__ = ["ConvBackbone", "CosineSoftmax", "Embedding", "EmbeddingHead", "EmbeddingModel", "Marks"]
