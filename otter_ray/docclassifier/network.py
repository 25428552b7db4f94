"""Backbone and head: image `[N, 3, H, W]` in [0, 1] to embedding `[N, embed_dim]`, not normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn

from otter_ray.errors import TrainingError, did_you_mean


class Backbone(nn.Module):
    """A timm model that gives its feature maps, finest first.

    Args:
        name: timm's name, with or without Otter's prefix `timm_`.
        pretrained: load timm's weights (needs the hub, or its cache, once).
        features_only: must stay True; Otter's configs state it.
        **options: go to `timm.create_model`.

    Raises:
        ValueError: timm has no such model.
        TrainingError: the pretrained weights cannot be had.
    """

    def __init__(
        self, name: str, pretrained: bool = False, features_only: bool = True, **options: Any
    ) -> None:
        super().__init__()
        if not features_only:
            raise ValueError("features_only is False but the head needs feature maps. Set it to true.")
        timm_name = name.removeprefix("timm_")
        if not timm.is_model(timm_name):
            raise ValueError(f"timm has no model {timm_name!r}.{did_you_mean(timm_name, timm.list_models())}")
        self.model = _create(timm_name, pretrained, options)
        self.channels: list[int] = self.model.feature_info.channels()
        self.reductions: list[int] = self.model.feature_info.reduction()

    def feature_map_size(self, image_size: Sequence[int]) -> int:
        """Side of the last feature map for `image_size` (height, width): the shorter one's."""
        return -(-min(image_size) // self.reductions[-1])

    def forward(self, img: Tensor) -> list[Tensor]:
        """Feature maps `[N, channels[i], H / reductions[i], W / reductions[i]]`."""
        features: list[Tensor] = self.model(img)
        return features


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    except OSError as exc:
        raise TrainingError(
            f"model.backbone.options.pretrained is true but the weights of {name} cannot be had: {exc}. "
            f"Set it to false, or download them once into the hub's cache on a machine with a network."
        ) from exc


class FeatureLearningSqueezeLBNHead(nn.Module):
    """1x1 squeeze, flatten, then two linear layers with LayerNorm and BatchNorm.

    Args:
        in_dim: channels of the backbone's last feature map.
        embed_dim: length of the embedding.
        feature_map_size: side of that map.
        squeeze_ratio: share of the channels that is kept, in (0, 1].
    """

    def __init__(
        self, in_dim: int, embed_dim: int, feature_map_size: int, squeeze_ratio: float = 0.25
    ) -> None:
        super().__init__()
        squeezed = max(1, int(in_dim * squeeze_ratio))
        self.squeeze = nn.Sequential(nn.Conv2d(in_dim, squeezed, 1, bias=False), nn.Flatten())
        self.embed = nn.Sequential(
            nn.Linear(squeezed * feature_map_size**2, embed_dim, bias=False),
            nn.LayerNorm(embed_dim),
            nn.Linear(embed_dim, embed_dim, bias=False),
            nn.BatchNorm1d(embed_dim),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding `[N, embed_dim]` of the last feature map."""
        embedding: Tensor = self.embed(self.squeeze(features[-1]))
        return embedding


class WarpFeatureLearning(nn.Module):
    """What is exported: backbone, neck and head of a trained model, the loss left behind.

    Args:
        model: the trained `ClassifierModel`.
        normalize: give unit embeddings, so that `(dot + 1) / 2` is the similarity to compare against a
            threshold; False gives them raw.
    """

    def __init__(self, model: nn.Module, normalize: bool = True) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = (getattr(model, part) for part in ("backbone", "neck", "head"))
        self.normalize = normalize

    def forward(self, img: Tensor) -> Tensor:
        """Embeddings `[N, embed_dim]` of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.neck(self.backbone(img)))
        if not self.normalize:
            return embeddings
        # As functional.normalize does, whose expand_as costs the ONNX file the embedding's known length.
        unit: Tensor = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return unit
