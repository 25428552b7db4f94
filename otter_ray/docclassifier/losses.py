"""Margin softmax losses over normalised embeddings and class centres.

Both take cosine logits `[B, C]` and change the target's entry only, before scaling by `s`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MarginSoftmax(nn.Module):
    """Cross entropy over `s * margin(cos)`; `weight` holds a centre `[num_classes, embed_dim]` a class.

    Args:
        num_classes: classes of the training data set.
        embed_dim: length of an embedding.
        s: scale of the logits, > 0.
        m: margin; its meaning is the child's.
    """

    def __init__(self, num_classes: int, embed_dim: int, s: float = 64.0, m: float = 0.4) -> None:
        super().__init__()
        if s <= 0:
            raise ValueError(f"s is {s} but must be > 0")
        self.s, self.m = float(s), float(m)
        self.weight = nn.Parameter(torch.empty(num_classes, embed_dim).normal_(0, 0.01))

    def margin(self, target: Tensor) -> Tensor:
        """The target's cosine `[B]` with the margin applied."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of embeddings `[B, D]` (normalised here) with integer labels `[B]`."""
        # float32 whatever the trainer's precision: a cosine near 1 has no digits to spare.
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            index = labels.long()[:, None]
            target = cosine.gather(1, index).clamp(-1, 1)
            logits = cosine.scatter(1, index, self.margin(target))
            return F.cross_entropy(self.s * logits, labels.long())


class CosFace(MarginSoftmax):
    """`s (cos t - m)` for the target: Wang et al. 2018, arXiv 1801.09414, eq. 4."""

    def margin(self, target: Tensor) -> Tensor:
        """`cos t - m`."""
        return target - self.m


class ArcFace(MarginSoftmax):
    """`s cos(t + m)` for the target: Deng et al. 2019, arXiv 1801.07698, eq. 3; `m` in radians.

    Beyond `t = pi - m`, where `cos(t + m)` would rise again, the line `cos t - m sin m` goes on falling
    (the authors' own remedy, in their code).
    """

    def margin(self, target: Tensor) -> Tensor:
        """`cos(t + m)`, or the line that continues it."""
        # sqrt has no gradient at 0: keep the sine away from it.
        sine = (1 - target.square()).clamp_min(1e-7).sqrt()
        shifted = target * math.cos(self.m) - sine * math.sin(self.m)
        falling = target > math.cos(math.pi - self.m)
        return torch.where(falling, shifted, target - self.m * math.sin(self.m))
