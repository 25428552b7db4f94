"""The backbone, and what is exported of a trained model."""

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
    except (OSError, RuntimeError) as exc:  # no network; no weights of that name
        raise TrainingError(
            f"model.backbone.options.pretrained is true but the weights of {name} cannot be had: "
            f"{str(exc).rstrip('.')}. Set it to false, or download them once into the hub's cache on a "
            "machine with a network."
        ) from exc


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
