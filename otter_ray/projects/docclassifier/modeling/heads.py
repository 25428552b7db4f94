"""Heads: from a backbone's last feature map `[N, in_dim, h, w]` to embeddings `[N, embed_dim]`.

Each reads the map in its own way. Two linear layers without bias follow, each with norms after it. The
embedding is not normalised. `feature_map_size` is the side of a square map, or (h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

MapSize = int | Sequence[int]


class _Head(nn.Module):
    """A head.

    Args:
        look: Makes `[N, length]` of the map.
        length: Length of what `look` returns.
        embed_dim: Length of an embedding.
        *norms: Norms that follow each of the two linear layers.
    """

    def __init__(self, look: nn.Module, length: int, embed_dim: int, *norms: type[nn.Module]) -> None:
        super().__init__()
        self.look = look
        layers: list[nn.Module] = []
        for size in (length, embed_dim):
            layers += [nn.Linear(size, embed_dim, bias=False), *(norm(embed_dim) for norm in norms)]
        self.embed = nn.Sequential(*layers)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return embeddings `[N, embed_dim]` of the last feature map."""
        embedding: Tensor = self.embed(self.look(features[-1]))
        return embedding


def _cells(size: MapSize) -> int:
    """Return the number of cells of a map."""
    height, width = (size, size) if isinstance(size, int) else size
    return height * width


class FeatureLearningHead(_Head):
    """Every cell of the map, BatchNorm."""

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: MapSize) -> None:
        super().__init__(nn.Flatten(), in_dim * _cells(feature_map_size), embed_dim, nn.BatchNorm1d)


class FeatureLearningLNHead(_Head):
    """Every cell of the map, LayerNorm."""

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: MapSize) -> None:
        super().__init__(nn.Flatten(), in_dim * _cells(feature_map_size), embed_dim, nn.LayerNorm)


class FeatureLearningGAPHead(_Head):
    """The mean over the map, LayerNorm.

    `feature_map_size` changes nothing; it is accepted because configs of all other heads give it.
    """

    def __init__(self, in_dim: int, embed_dim: int, feature_map_size: MapSize = -1) -> None:
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(mean, in_dim, embed_dim, nn.LayerNorm)


class _SqueezeHead(_Head):
    """Every cell of the map after a 1x1 convolution to `squeeze_ratio`, in (0, 1], of its channels."""

    norms: tuple[type[nn.Module], ...] = ()

    def __init__(
        self, in_dim: int, embed_dim: int, feature_map_size: MapSize, squeeze_ratio: float = 0.25
    ) -> None:
        if not 0 < squeeze_ratio <= 1:
            raise ValueError(f"squeeze_ratio is {squeeze_ratio} but must be in (0, 1]")
        squeezed = max(1, int(in_dim * squeeze_ratio))
        squeeze = nn.Sequential(nn.Conv2d(in_dim, squeezed, 1, bias=False), nn.Flatten())
        super().__init__(squeeze, squeezed * _cells(feature_map_size), embed_dim, *self.norms)


class FeatureLearningSqueezeHead(_SqueezeHead):
    """Fewer channels, every cell of the map, LayerNorm."""

    norms = (nn.LayerNorm,)


class FeatureLearningSqueezeLBNHead(_SqueezeHead):
    """Fewer channels, every cell of the map, LayerNorm and then BatchNorm."""

    norms = (nn.LayerNorm, nn.BatchNorm1d)
