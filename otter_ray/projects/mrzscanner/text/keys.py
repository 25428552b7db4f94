"""The keys of the exported models: the character of each index of an output's last axis.

The clients of the recogniser and of the spotter count the same 40 keys in different orders. Both are said
here and nowhere else. A label is `LENGTH` indices: the lines with separators between them, one EOS, and
padding.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.text.icao import FILLER, Zone

LENGTH: Final = 93  # 90 characters of TD1, 2 separators, 1 EOS
PAD, EOS = "<PAD>", "<EOS>"


@dataclass(frozen=True)
class KeyTable:
    """The keys in the order of an output's last axis; `separator` is the one between two lines."""

    keys: tuple[str, ...]
    separator: str

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def index(self) -> dict[str, int]:
        """Key -> its index."""
        return {key: place for place, key in enumerate(self.keys)}

    @property
    def pad(self) -> int:
        """The index that a client drops wherever it is."""
        return self.index[PAD]

    @property
    def eos(self) -> int:
        """The index that ends a text."""
        return self.index[EOS]

    @property
    def between_lines(self) -> int:
        """The index of the separator."""
        return self.index[self.separator]

    def encode(self, zone: Zone) -> NDArray[np.int64]:
        """Return the label of a zone, int64 [LENGTH].

        Raises:
            DataError: It is longer than a label.
        """
        ids = [self.index[character] for character in zone[0]]
        for line in zone[1:]:
            ids += [self.between_lines, *(self.index[character] for character in line)]
        if len(ids) >= LENGTH:
            raise DataError(
                f"a zone of {len(ids)} places does not fit a label of {LENGTH}, which ends with EOS."
            )
        label = np.full(LENGTH, self.pad, np.int64)
        label[: len(ids) + 1] = [*ids, self.eos]
        return label

    def decode(self, ids: Sequence[int]) -> Zone:
        """Return the lines of indices as the clients do: without padding, to the first EOS."""
        lines = [""]
        for place in ids:
            if place == self.eos:
                break
            if place == self.between_lines:
                lines.append("")
            elif place != self.pad:
                lines[-1] += self.keys[place]
        return tuple(lines)


_CHARACTERS = (*string.ascii_uppercase, *string.digits, FILLER)
READER_KEYS: Final = KeyTable((PAD, EOS, "<SEP>", *_CHARACTERS), "<SEP>")
SPOTTER_KEYS: Final = KeyTable((PAD, EOS, *_CHARACTERS, "&"), "&")
# By what data sets call them.
KEY_TABLES: Final = {"reader": READER_KEYS, "spotter": SPOTTER_KEYS}
