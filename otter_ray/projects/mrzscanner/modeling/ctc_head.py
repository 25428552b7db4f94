"""Read row by row and column by column, with blanks between: connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otter_ray.projects.mrzscanner.text.icao import SHAPES
from otter_ray.projects.mrzscanner.text.keys import LENGTH, KeyTable

_ROWS = max(lines for lines, _ in SHAPES)
# A run of fillers needs a blank between any two.
_LEAST_COLUMNS = 2 * max(columns for _, columns in SHAPES)
# Difference of two logits below which the lesser one still counts for something.
_NEAR_TIE = 0.25


class CtcHead(nn.Module):
    """Features in three rows, read one after the other. Padding is the blank.

    Args:
        in_dim: Channels of the feature map.
        map_size: (h, w) of the feature map.
        keys: The keys of the text.
        dim: Width of the layers.
    """

    not_blank: Tensor

    def __init__(self, in_dim: int, map_size: tuple[int, int], keys: KeyTable, dim: int = 64) -> None:
        super().__init__()
        if map_size[1] < _LEAST_COLUMNS or map_size[0] < _ROWS:
            raise ValueError(
                f"the feature map is {map_size[0]}x{map_size[1]}, but CTC needs {_ROWS} rows, and "
                f"{_LEAST_COLUMNS} columns: a run of equal characters needs a blank between any two. Make "
                "common.image_size larger"
            )
        self.pad, self.eos = keys.pad, keys.eos
        self.register_buffer("not_blank", torch.arange(len(keys)).ne(keys.pad).float(), persistent=False)
        reach = map_size[0] // _ROWS // 2
        self.look = nn.Sequential(nn.Conv2d(in_dim, dim, (2 * reach + 1, 3), padding=(reach, 1)), nn.ReLU())
        self.register_buffer("rows", _thirds(map_size[0]), persistent=False)
        self.read = nn.Sequential(
            nn.Conv2d(dim, dim, (1, 5), padding=(0, 2)), nn.ReLU(), nn.Conv2d(dim, len(keys), 1),
        )  # fmt: skip

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return logits `[N, 3 * w, keys]` of feature maps, the finest first."""
        read = self.read(self.rows @ self.look(features[0]))
        return (read.flatten(2).transpose(1, 2),)

    def losses(
        self, outputs: Sequence[Tensor], labels: Mapping[str, Tensor], smoothing: float
    ) -> dict[str, Tensor]:
        """Return the CTC loss of the text before EOS; it knows no smoothing."""
        logits, text = outputs[0], labels["text"]
        lengths = (text == self.eos).int().argmax(dim=1)
        steps = torch.full_like(lengths, logits.shape[1])
        scores = logits.float().log_softmax(dim=2).transpose(0, 1)  # there is no CTC in bfloat16
        loss = F.ctc_loss(scores, text, steps, lengths, blank=self.pad, zero_infinity=True)
        return {"text": loss}

    def text(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the text without blanks and repetitions, `[N, 93, keys]`, as clients do not collapse.

        Ones where a key is, else zeros. A step whose two best keys are nearly tied counts as both in part. So
        all is continuous: otherwise rounding, which decides a tie, would move the text after it by a place.
        """
        logits = outputs[0]
        near = F.relu(1 - (logits.amax(dim=2, keepdim=True) - logits) / _NEAR_TIE)
        told = near / near.sum(dim=2, keepdim=True)
        new = told * (1 - F.pad(told[:, :-1], (0, 0, 1, 0))) * self.not_blank
        count = new.sum(dim=2)
        places = count.cumsum(dim=1) - count  # as many as came before
        slots = torch.arange(LENGTH, device=logits.device, dtype=logits.dtype)
        at = F.relu(1 - (places[..., None] - slots).abs())  # [N, steps, 93]
        text = at.transpose(1, 2) @ new
        return text + F.relu(1 - text.sum(dim=2, keepdim=True)) * (1 - self.not_blank)


def _thirds(height: int) -> Tensor:
    """Return the matrix that averages a map's height to three rows, `[3, height]`."""
    return F.interpolate(torch.eye(height)[None], _ROWS, mode="area")[0].T.contiguous()
