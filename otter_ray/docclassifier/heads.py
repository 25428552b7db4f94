"""Heads: a backbone's last feature map `[N, in_dim, side, side]` to embeddings `[N, embed_dim]`.

Each looks at the map in its own way, then come two linear layers without bias, each followed by norms. The
embedding is not normalised. `feature_map_size` is the side of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class _Head(nn.Module):
    """Args: `look` makes `[N, length]` of the map; `norms` follow each of the two linear layers."""

    def __init__(self, look: nn.Module, length: int, embed_dim: int, *norms: type[nn.Module]) -> None:
        super().__init__()
        self.look = look
        layers: list[nn.Module] = []
        for size in (length, embed_dim):
            layers += [nn.Linear(size, embed_dim, bias=False), *(norm(embed_dim) for norm in norms)]
        self.embed = nn.Sequential(*layers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embedding `[N, embed_dim]` of the last feature map."""
        embedding: Tensor = self.embed(self.look(features[-1]))
        return embedding


class FeatureLearningHead(_Head):
    """Every cell of the map, BatchNorm."""

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: int) -> None:
        super().__init__(nn.Flatten(), in_dim * feature_map_size**2, embed_dim, nn.BatchNorm1d)


class FeatureLearningLNHead(_Head):
    """Every cell of the map, LayerNorm."""

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: int) -> None:
        super().__init__(nn.Flatten(), in_dim * feature_map_size**2, embed_dim, nn.LayerNorm)


class FeatureLearningGAPHead(_Head):
    """The mean over the map, LayerNorm.

    `feature_map_size` changes nothing; it is taken because configs of all other heads give it.
    """

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: int = -1) -> None:
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(mean, in_dim, embed_dim, nn.LayerNorm)


class _SqueezeHead(_Head):
    """Every cell of the map after a 1x1 convolution to `squeeze_ratio`, in (0, 1], of its channels."""

    norms: tuple[type[nn.Module], ...] = ()

    def __init__(
        self, in_dim: int, embed_dim: int, feature_map_size: int, squeeze_ratio: float = 0.25
    ) -> None:
        if not 0 < squeeze_ratio <= 1:
            raise ValueError(f"squeeze_ratio is {squeeze_ratio} but must be in (0, 1]")
        squeezed = max(1, int(in_dim * squeeze_ratio))
        squeeze = nn.Sequential(nn.Conv2d(in_dim, squeezed, 1, bias=False), nn.Flatten())
        super().__init__(squeeze, squeezed * feature_map_size**2, embed_dim, *self.norms)


class FeatureLearningSqueezeHead(_SqueezeHead):
    """Fewer channels, every cell of the map, LayerNorm."""

    norms = (nn.LayerNorm,)


class FeatureLearningSqueezeLBNHead(_SqueezeHead):
    """Fewer channels, every cell of the map, LayerNorm and then BatchNorm."""

    norms = (nn.LayerNorm, nn.BatchNorm1d)
