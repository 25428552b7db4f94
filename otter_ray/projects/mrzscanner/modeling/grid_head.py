"""Read monospaced print on its grid: find the ends of the lines, then classify the character in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otter_ray.projects.mrzscanner.text.icao import ALPHABET, SHAPES
from otter_ray.projects.mrzscanner.text.keys import LENGTH, KeyTable

# At how many places a cell's features are read, evenly, from top to bottom and from left to right.
_ACROSS, _ALONG = 4, 3
_LEFT, _RIGHT = 1 / 6, 5 / 6  # of the crop's width: where the heights of lines are told


class GridHead(nn.Module):
    """Character by character on the zone's grid.

    It tells which of the three grids it is, where the middles of the first and the last column are, and how
    high the first and the last line are at the left and at the right. Features are then read at each cell of
    each grid, by one classifier.

    Args:
        in_dim: Channels of the feature map.
        map_size: (h, w) of the feature map.
        keys: The keys of the text.
        dim: Width of the layers.
    """

    def __init__(self, in_dim: int, map_size: tuple[int, int], keys: KeyTable, dim: int = 64) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            nn.Conv1d(2 * in_dim, dim, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(dim, dim, 5, padding=4, dilation=2),
            nn.ReLU(),
        )
        self.ends = nn.Conv1d(dim, 2, 5, padding=2)
        self.format = nn.Linear(dim, len(SHAPES))
        self.heights = nn.Sequential(
            nn.Conv1d(in_dim, dim, 3, padding=1), nn.ReLU(), nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU(),
            nn.Conv1d(dim, 2, 3, padding=1),
        )  # fmt: skip
        self.read = nn.Sequential(
            nn.Linear(in_dim * _ACROSS * _ALONG, dim), nn.ReLU(), nn.Linear(dim, len(ALPHABET))
        )
        for place, (lines, columns) in enumerate(SHAPES):
            self.register_buffer(f"frame_{place}", _frame(lines, columns, keys), persistent=False)
        self.third = max(1, map_size[1] // 3)
        # Where columns end and lines lie in most crops: the first steps need not learn that.
        self.usual_ends = nn.Parameter(_peaks((0.04, 0.96), 0.05, map_size[1]))
        self.usual_heights = nn.Parameter(_peaks((0.22, 0.78), 0.1, map_size[0]))
        # The alphabet's characters are consecutive keys.
        self.first_key, self.num_keys = keys.index[ALPHABET[0]], len(keys)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return format `[N, 3]`, places `[N, 6]`, and of each grid the characters `[N, lines, columns, 37]`.

        The characters are logits, in the order of the alphabet.
        """
        finest = features[0]
        profile = self.columns(torch.cat([finest.mean(dim=2), finest.amax(dim=2)], dim=1))
        sides = (finest[..., : self.third].mean(dim=3), finest[..., -self.third :].mean(dim=3))
        ends = _middle(self.ends(profile) + self.usual_ends)
        heights = (_middle(self.heights(side) + self.usual_heights) for side in sides)
        places = torch.cat([ends, *heights], dim=1)
        grids = (self.read(_cells(finest, places, *shape)) for shape in SHAPES)
        return self.format(profile.mean(dim=2)), places, *grids

    def no_weight_decay(self) -> set[str]:
        """Return the names of what is learned as it is: the usual places."""
        return {"usual_ends", "usual_heights"}

    def losses(
        self, outputs: Sequence[Tensor], labels: Mapping[str, Tensor], smoothing: float
    ) -> dict[str, Tensor]:
        """Return the losses of the text, of the format, and of the zone's place where that is known."""
        form, places, *grids = outputs
        true = [self._is_of(labels["text"], place) for place in range(len(SHAPES))]
        known = torch.stack(true, dim=1)
        shape = known.float().argmax(dim=1)
        total, count = places.new_zeros(()), 0
        for rows, grid, (lines, columns) in zip(true, grids, SHAPES, strict=True):
            cells = _characters(labels["text"][rows], lines, columns) - self.first_key
            loss = F.cross_entropy(
                grid[rows].flatten(0, 2), cells.flatten(), label_smoothing=smoothing, reduction="sum"
            )
            total, count = total + loss, count + cells.numel()
        return {
            "text": total / max(1, count),
            "format": F.cross_entropy(form, shape),
            "zone": _zone_loss(places, labels["zone"], shape),
        }

    def text(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return how likely each key is at each of the text's places, `[N, 93, keys]`."""
        form, _, *grids = outputs
        shares = form.softmax(dim=1)
        texts = []
        for place, (grid, (lines, columns)) in enumerate(zip(grids, SHAPES, strict=True)):
            characters = F.pad(
                grid.softmax(dim=3), (self.first_key, self.num_keys - self.first_key - len(ALPHABET))
            )
            # One empty column is where the separator, and at the end EOS, comes in.
            rows = F.pad(characters, (0, 0, 0, 1)).reshape(-1, lines * (columns + 1), self.num_keys)
            text = F.pad(rows, (0, 0, 0, LENGTH - lines * (columns + 1)))
            texts.append(shares[:, place, None, None] * (text + getattr(self, f"frame_{place}")))
        return torch.stack(texts).sum(dim=0)

    def _is_of(self, text: Tensor, place: int) -> Tensor:
        """Return which labels `[N, 93]` have a grid's separators and end where it has them."""
        frame = getattr(self, f"frame_{place}")
        fixed = frame.sum(dim=1) > 0
        same: Tensor = text[:, fixed] == frame[fixed].argmax(dim=1)
        return same.all(dim=1)


def _frame(lines: int, columns: int, keys: KeyTable) -> Tensor:
    """Return what this grid has around its characters: separators, EOS and padding, `[93, keys]`."""
    frame = torch.zeros(LENGTH, len(keys))
    end = lines * (columns + 1) - 1
    frame[columns : end : columns + 1, keys.between_lines] = 1
    frame[end, keys.eos] = 1
    frame[end + 1 :, keys.pad] = 1
    return frame


def _characters(text: Tensor, lines: int, columns: int) -> Tensor:
    """Return the keys of the cells, `[N, lines, columns]`, of labels of this grid."""
    return text[:, : lines * (columns + 1)].reshape(-1, lines, columns + 1)[..., :-1]


def _peaks(places: Sequence[float], width: float, length: int) -> Tensor:
    """Return logits `[K, length]` whose softmax is a bell around each place, in fractions of the length."""
    steps = (torch.arange(length) + 0.5) / length
    return -0.5 * ((steps - torch.tensor(places)[:, None]) / width).square()


def _middle(logits: Tensor) -> Tensor:
    """Return where logits `[N, K, length]` lie, as fractions of the length `[N, K]`."""
    length = logits.shape[-1]
    places = (torch.arange(length, device=logits.device, dtype=logits.dtype) + 0.5) / length
    return (logits.softmax(dim=-1) * places).sum(dim=-1)


def _between(start: Tensor, end: Tensor, count: int, samples: int) -> Tensor:
    """Return places `[..., count * samples]` in cells whose middles go from `start` to `end` `[...]`."""
    steps = torch.arange(count * samples, device=start.device, dtype=start.dtype)
    steps = ((steps + 0.5) / samples - 0.5) / (count - 1)
    return start[..., None] + (end - start)[..., None] * steps


def _weights(places: Tensor, length: int) -> Tensor:
    """Return what linear interpolation at fractions `[...]` takes of `length` features, `[..., length]`."""
    at = (places * length - 0.5).clamp(0, length - 1)
    steps = torch.arange(length, device=places.device, dtype=places.dtype)
    return F.relu(1 - (at[..., None] - steps).abs())


def _cells(features: Tensor, places: Tensor, lines: int, columns: int) -> Tensor:
    """Return the features of each cell, `[N, lines, columns, C * samples]`, of a map `[N, C, h, w]`.

    Only multiplications of matrices: any runtime has them.
    """
    channels, height, width = features.shape[1:]
    first, last, top_left, bottom_left, top_right, bottom_right = places.unbind(dim=1)
    x = (torch.arange(width, device=features.device, dtype=features.dtype) + 0.5) / width
    along = ((x - _LEFT) / (_RIGHT - _LEFT))[None]
    top = top_left[:, None] + (top_right - top_left)[:, None] * along
    bottom = bottom_left[:, None] + (bottom_right - bottom_left)[:, None] * along
    rows = _weights(_between(top, bottom, lines, _ACROSS), height)  # [N, w, rows, h]
    straight = rows @ features.permute(0, 3, 2, 1)  # [N, w, rows, C]
    picks = _weights(_between(first, last, columns, _ALONG), width)  # [N, columns, w]
    cells = picks @ straight.flatten(2)
    cells = cells.reshape(-1, columns, _ALONG, lines, _ACROSS, channels).permute(0, 3, 1, 2, 4, 5)
    return cells.flatten(3)


def _zone_loss(places: Tensor, zone: Tensor, shape: Tensor) -> Tensor:
    """Return how far the places are from those of known zones `[N, 4, 2]`, in cells; NaN is not known."""
    sizes = torch.tensor(SHAPES, device=zone.device, dtype=zone.dtype)[shape]
    lines, columns = sizes[:, 0], sizes[:, 1]
    left, right = _on_side(zone[:, 0], zone[:, 3], lines), _on_side(zone[:, 1], zone[:, 2], lines)
    inset = (right - left) * (0.5 / columns)[:, None, None]
    left, right = left + inset, right - inset  # [N, first and last line, (x, y)]: middles of the corner cells
    slope = (right[..., 1] - left[..., 1]) / (right[..., 0] - left[..., 0])
    heights = [left[..., 1] + slope * (x - left[..., 0]) for x in (_LEFT, _RIGHT)]
    true = torch.cat(
        [left[..., 0].mean(1, keepdim=True), right[..., 0].mean(1, keepdim=True), *heights], dim=1
    )
    scale = torch.stack([columns, columns, lines, lines, lines, lines], dim=1)
    known = true.isfinite().all(dim=1)
    return F.smooth_l1_loss((places * scale)[known], (true * scale)[known], beta=0.2, reduction="sum") / max(
        1, 6 * len(places)
    )


def _on_side(top: Tensor, bottom: Tensor, lines: Tensor) -> Tensor:
    """Return the middles of the first and the last line on one side of a zone, `[N, 2, 2]`."""
    half = (bottom - top) / (2 * lines)[:, None]
    return torch.stack([top + half, bottom - half], dim=1)
