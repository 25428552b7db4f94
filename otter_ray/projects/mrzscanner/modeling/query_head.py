"""Read with learned queries, one for each place of the text, that attend to the whole image at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otter_ray.projects.mrzscanner.text.keys import LENGTH, KeyTable


class Attention(nn.Module):
    """Multi-head attention of multiplications and a softmax alone, which any runtime has."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim is {dim}, which heads ({heads}) does not divide")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """Return `[N, Q, dim]` of queries `[N, Q, dim]` that look at `[N, T, dim]`."""
        query, key, value = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, queries), (self.key, seen), (self.value, seen))
        )
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
        mixed: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the image, each time with the norm after it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.among, self.image = Attention(dim, heads), Attention(dim, heads)
        self.mix = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """Return `[N, Q, dim]` of queries `[N, Q, dim]` and an image's tokens `[N, T, dim]`."""
        queries = self.norms[0](queries + self.among(queries, queries))
        queries = self.norms[1](queries + self.image(queries, seen))
        mixed: Tensor = self.norms[2](queries + self.mix(queries))
        return mixed


class QueryHead(nn.Module):
    """A decoder that reads all places of the text in parallel.

    Every feature map becomes tokens of `patch` x `patch` cells, with an embedding and positions of its own.

    Args:
        in_dims: Channels of each feature map.
        map_sizes: (h, w) of each feature map.
        keys: The keys of the text.
        dim: Width of the tokens and queries.
        layers: Layers of the decoder.
        heads: Heads of the attention; must divide `dim`.
        patch: Side of a token in cells of a feature map.
    """

    def __init__(
        self,
        in_dims: Sequence[int],
        map_sizes: Sequence[tuple[int, int]],
        keys: KeyTable,
        dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        patch: int = 2,
    ) -> None:
        super().__init__()
        self.pad = keys.pad
        self.embed = nn.ModuleList(nn.Conv2d(given, dim, patch, patch) for given in in_dims)
        sizes = [(height // patch) * (width // patch) for height, width in map_sizes]
        if not all(sizes):
            raise ValueError(f"patch is {patch}, more than the sides of a feature map: {list(map_sizes)}")
        self.positions = nn.ParameterList(nn.Parameter(0.02 * torch.randn(1, size, dim)) for size in sizes)
        self.queries = nn.Parameter(torch.randn(1, LENGTH, dim))
        self.layers = nn.ModuleList(DecoderLayer(dim, heads) for _ in range(layers))
        self.classify = nn.Linear(dim, len(keys))

    def no_weight_decay(self) -> set[str]:
        """Return the names of what is learned as it is: queries and positions."""
        return {"queries", *(f"positions.{place}" for place in range(len(self.positions)))}

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return logits `[N, 93, keys]` of feature maps."""
        tokens = [
            embed(level).flatten(2).transpose(1, 2) + position
            for level, embed, position in zip(features, self.embed, self.positions, strict=True)
        ]
        seen = torch.cat(tokens, dim=1)
        queries = self.queries.expand(seen.shape[0], -1, -1)  # len() would be a constant in the exported file
        for layer in self.layers:
            queries = layer(queries, seen)
        return (self.classify(queries),)

    def losses(
        self, outputs: Sequence[Tensor], labels: Mapping[str, Tensor], smoothing: float
    ) -> dict[str, Tensor]:
        """Return the cross entropy of the places up to EOS and with it."""
        loss = F.cross_entropy(
            outputs[0].flatten(0, 1),
            labels["text"].flatten(),
            ignore_index=self.pad,
            label_smoothing=smoothing,
        )
        return {"text": loss}

    def text(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the logits."""
        return outputs[0]
