"""The loss of a reader: the weighted sum of the losses of its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn


class ReadingHead(Protocol):
    """What a reader's head has to offer, besides `forward(features)`, which returns a tuple of tensors."""

    def losses(
        self, outputs: Sequence[Tensor], labels: Mapping[str, Tensor], smoothing: float
    ) -> dict[str, Tensor]:
        """Return the loss `text`, and others by the names of their weights."""
        ...

    def text(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return how likely each key is at each of the text's places, `[N, 93, keys]`."""
        ...


class TextLoss(nn.Module):
    """Sum of the head's losses.

    Args:
        format_weight: Weight of telling the format, for heads that do.
        zone_weight: Weight of finding the zone's place, for heads that do, on data that know it.
        label_smoothing: Share of each target that goes to all keys, for heads that classify characters.
    """

    def __init__(
        self, format_weight: float = 0.3, zone_weight: float = 1.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if min(format_weight, zone_weight) < 0 or not 0 <= label_smoothing < 1:
            raise ValueError("weights must be at least 0, and label_smoothing in [0, 1)")
        self.weights = {"text": 1.0, "format": format_weight, "zone": zone_weight}
        self.label_smoothing = label_smoothing

    def forward(
        self, head: ReadingHead, outputs: Sequence[Tensor], labels: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        parts = head.losses(outputs, labels, self.label_smoothing)
        return {name: self.weights[name] * part for name, part in parts.items()}
