"""Heads: predict corners from a neck's maps, as heatmaps or as points.

Both return a `Prediction` of logits and positions. A part that a head does not predict is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from otter_ray.vision.necks import Separable

CORNERS = 4
# Of a heatmap's first values: nearly all of a target is 0.
FIRST_LOGIT = -3.0


class Prediction(NamedTuple):
    """What a model says of images.

    Attributes:
        corners: Logits of the heatmaps, `[N, 4, h, w]`.
        edge: Logits of the outline, `[N, 1, h, w]`.
        points: Corners, `[N, 4, 2]` in fractions.
        has_object: Logits of whether there is a document, `[N, 1]`.
    """

    corners: Tensor | None = None
    edge: Tensor | None = None
    points: Tensor | None = None
    has_object: Tensor | None = None


class HeatmapHead(nn.Module):
    """A heatmap for each corner and one for the outline, from the finest map.

    Args:
        in_channels: Of each map, finest first.
        reductions: How many times smaller than the image each map is.
        downscale: How many times smaller the heatmaps are.
        edge: Whether to learn the outline, too. It is not exported.
        has_object: Whether to learn if there is a document, from the coarsest map.

    Raises:
        ValueError: The finest map cannot become heatmaps of that size.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        reductions: Sequence[int],
        downscale: int = 4,
        edge: bool = True,
        has_object: bool = True,
    ) -> None:
        super().__init__()
        doublings = math.log2(reductions[0] / downscale) if downscale > 0 else -1.0
        if doublings < 0 or not doublings.is_integer():
            raise ValueError(
                f"downscale is {downscale}, but the finest map is {reductions[0]} times smaller than the "
                f"image. Give {reductions[0]}, or a power of two below it"
            )
        channels, self.has_edge = in_channels[0], edge
        self.finer = nn.ModuleList(Separable(channels, channels) for _ in range(int(doublings)))
        logits = nn.Conv2d(channels, CORNERS + edge, 1, bias=True)
        with torch.no_grad():
            logits.bias.fill_(FIRST_LOGIT)  # type: ignore[union-attr]
        self.maps = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            logits,
        )
        self.is_there = nn.Linear(in_channels[-1], 1) if has_object else None

    @staticmethod
    def reads(levels: int, options: Mapping[str, Any]) -> list[int]:
        """Return which of so many maps a head with these options reads; without this method it reads all."""
        return [0, levels - 1] if levels > 1 and options.get("has_object", True) else [0]

    def forward(self, features: Sequence[Tensor]) -> Prediction:
        """Return logits of heatmaps."""
        finest = features[0]
        for layer in self.finer:
            height, width = finest.shape[2:]
            finest = layer(functional.interpolate(finest, size=(2 * height, 2 * width), mode="nearest"))
        maps = self.maps(finest)
        edge = maps[:, CORNERS:] if self.has_edge else None
        is_there = None if self.is_there is None else self.is_there(features[-1].mean((2, 3)))
        return Prediction(corners=maps[:, :CORNERS], edge=edge, has_object=is_there)


class PointHead(nn.Module):
    """One learned query that looks at the maps from coarse to fine, and then names the corners.

    Args:
        in_channels: Of each map, finest first.
        map_sizes: (h, w) of each map.
        d_model: Width of the query.
        layers: Cross attentions to each map.
        heads: Of each attention.

    Raises:
        ValueError: The heads do not divide the query.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        map_sizes: Sequence[tuple[int, int]],
        d_model: int = 64,
        layers: int = 1,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if layers < 1 or heads < 1 or d_model % heads:
            raise ValueError(
                f"d_model is {d_model}, heads {heads} and layers {layers}: there must be at least one of "
                "each, and heads must divide d_model"
            )
        self.query = nn.Parameter(torch.randn(1, 1, d_model) * 0.02)
        self.tokens = nn.ModuleList(nn.Conv2d(channels, d_model, 1) for channels in in_channels)
        self.places = nn.ParameterList(
            nn.Parameter(torch.randn(1, height * width, d_model) * 0.02) for height, width in map_sizes
        )
        self.layers = layers
        self.attend = nn.ModuleList(CrossAttention(d_model, heads) for _ in range(layers * len(in_channels)))
        self.points = nn.Linear(d_model, 2 * CORNERS)
        nn.init.normal_(self.points.weight, std=0.01)
        with torch.no_grad():
            self.points.bias.copy_(torch.tensor([-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]))
        self.is_there = nn.Linear(in_channels[-1], 1)

    def no_weight_decay(self) -> set[str]:
        """Return what is neither a weight nor a bias: the query and the embeddings of positions."""
        return {"query", *(f"places.{level}" for level in range(len(self.places)))}

    def forward(self, features: Sequence[Tensor]) -> Prediction:
        """Return points, in (0, 1), and whether there is a document."""
        query = self.query.expand(features[0].shape[0], -1, -1)
        for level in range(len(features) - 1, -1, -1):
            tokens = self.tokens[level](features[level]).flatten(2).transpose(1, 2) + self.places[level]
            for layer in range(self.layers):
                query = self.attend[level * self.layers + layer](query, tokens)
        points = self.points(query[:, 0]).sigmoid().unflatten(1, (CORNERS, 2))
        return Prediction(points=points, has_object=self.is_there(features[-1].mean((2, 3))))


class CrossAttention(nn.Module):
    """Attention of queries to tokens by matrix products and a softmax, which every ONNX runtime has."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.keys, self.values, self.out = (nn.Linear(d_model, d_model) for _ in range(4))
        self.norm, self.norm_after = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.mix = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.ReLU(inplace=True), nn.Linear(2 * d_model, d_model)
        )

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Return queries `[N, Q, D]` that have looked at tokens `[N, T, D]`."""
        asked, keys, values = (
            layer(each).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, each in ((self.ask, query), (self.keys, tokens), (self.values, tokens))
        )
        weights = (asked @ keys.transpose(2, 3) * asked.shape[3] ** -0.5).softmax(3)
        seen = (weights @ values).transpose(1, 2).flatten(2)
        query = self.norm(query + self.out(seen))
        mixed: Tensor = self.norm_after(query + self.mix(query))
        return mixed
