"""Compare texts: ANLS, whole zones, check digits.

Texts are indices `[N, L]` as the exported models give them, joined with separators; `KeyTable` says what they
are. ANLS is the mean of 1 - distance / length, with Levenshtein's distance and the longer text's length.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.icao import Zone
from otter_ray.projects.mrzscanner.text.keys import KeyTable

Ids = NDArray[np.int64]
_NOTHING = -1  # beyond a text's end


def compact(ids: Ids, keys: KeyTable) -> tuple[Ids, NDArray[np.int64]]:
    """Return the texts without padding, cut at EOS and filled up with -1, and their lengths `[N]`."""
    ended = (ids == keys.eos).cumsum(axis=1) > 0
    kept = ~ended & (ids != keys.pad)
    lengths = kept.sum(axis=1)
    texts = np.full(ids.shape, _NOTHING, np.int64)
    texts[np.arange(ids.shape[1]) < lengths[:, None]] = ids[kept]
    return texts, lengths


def distances(one: Ids, one_lengths: Ids, other: Ids, other_lengths: Ids) -> Ids:
    """Return Levenshtein's distance of each pair of texts `[N, L]` that end at their lengths `[N]`."""
    places = np.arange(other.shape[1] + 1)
    row = np.broadcast_to(places, (len(one), len(places))).copy()
    rows = [row]
    for place in range(one.shape[1]):
        changed = row[:, :-1] + (one[:, place, None] != other)
        best = np.concatenate(
            [np.full((len(one), 1), place + 1), np.minimum(changed, row[:, 1:] + 1)], axis=1
        )
        # Insertions go along the row, each for 1: best[j] = min over k <= j of best[k] + j - k.
        row = np.minimum.accumulate(best - places, axis=1) + places
        rows.append(row)
    each = np.arange(len(one))
    return np.stack(rows)[one_lengths, each, other_lengths]


@dataclass(frozen=True)
class Comparison:
    """Read texts against the true ones, text by text.

    Attributes:
        similarity: 1 - distance / length, float64 [N].
        right: Whether the whole text is right, bool [N].
        read: The texts read.
        truth: The true texts.
    """

    similarity: NDArray[np.float64]
    right: NDArray[np.bool_]
    read: list[Zone]
    truth: list[Zone]

    @property
    def checked(self) -> NDArray[np.bool_]:
        """Whether the texts read have a format and all their check digits hold, bool [N]."""
        return np.array([icao.holds(zone) for zone in self.read], bool)

    @property
    def format_right(self) -> NDArray[np.bool_]:
        """Whether the texts read have the lines of the true ones, bool [N]."""
        pairs = zip(self.read, self.truth, strict=True)
        return np.array([list(map(len, read)) == list(map(len, true)) for read, true in pairs], bool)

    @property
    def values(self) -> dict[str, NDArray[Any]]:
        """Metric -> its value for each text, [N], of which it is the mean."""
        return {
            "valid_accuracy": self.right,
            "valid_anls": self.similarity,
            "valid_checked": self.checked,
            "valid_format": self.format_right,
        }

    def confusions(self, most: int = 20) -> list[dict[str, str | int]]:
        """Return the most frequent wrong characters, over texts with the right lines."""
        wrong: Counter[tuple[str, str]] = Counter()
        for read, true, same in zip(self.read, self.truth, self.format_right, strict=True):
            if same:
                wrong.update(
                    (is_, said) for is_, said in zip("".join(true), "".join(read), strict=True) if is_ != said
                )
        return [{"true": is_, "read": said, "times": times} for (is_, said), times in wrong.most_common(most)]

    def by_format(self) -> list[dict[str, str | int | float]]:
        """Return how many zones of each format are right."""
        found: dict[str, list[bool]] = {}
        for true, right in zip(self.truth, self.right, strict=True):
            form = icao.format_of(true)
            found.setdefault("other" if form is None else form.name, []).append(bool(right))
        return [
            {"format": name, "zones": len(all_of), "accuracy": float(np.mean(all_of))}
            for name, all_of in sorted(found.items())
        ]


def compare(read: Ids, truth: Ids, keys: KeyTable) -> Comparison:
    """Compare texts `[N, L]` with labels `[N, L]`."""
    (one, one_lengths), (other, other_lengths) = compact(read, keys), compact(truth, keys)
    longer = np.maximum(one_lengths, other_lengths)
    found = distances(one, one_lengths, other, other_lengths)
    similarity = np.where(longer > 0, 1 - found / np.maximum(longer, 1), 1.0)
    zones = ([keys.decode(row) for row in ids.tolist()] for ids in (read, truth))
    return Comparison(similarity, found == 0, *zones)
