"""A shuffle that is computed, not stored: one element of it costs microseconds and no memory.

ImageNet in 24 variants has 31 million classes. Shuffled as an array they take 5 s and 250 MB in each
DataLoader worker, for an epoch that sees a fraction of them.

A Feistel network [1] of any round function permutes the numbers of 2k bits. Numbers beyond `count` are
permuted again until one falls below ("cycle walking" [2]), which permutes `range(count)`.

[1] Luby, Rackoff: How to construct pseudorandom permutations from pseudorandom functions. 1988.
[2] Black, Rogaway: Ciphers with arbitrary finite domains. 2002.
"""

from __future__ import annotations

import hashlib

_ROUNDS = 8
_WORD = (1 << 64) - 1


def shuffled(place: int, count: int, seed: tuple[int, ...]) -> int:
    """Return the number at `place` of the shuffle of `range(count)` that `seed` determines.

    Over all places each number below `count` occurs once. The shuffle is the same on every machine.
    """
    digest = hashlib.blake2b(repr(seed).encode(), digest_size=8).digest()
    key, half = int.from_bytes(digest, "little"), max(1, ((count - 1).bit_length() + 1) // 2)
    place = _permuted(place, half, key)
    while place >= count:
        place = _permuted(place, half, key)
    return place


def _permuted(number: int, half: int, key: int) -> int:
    """Map a number of 2 * `half` bits by the Feistel network with this key of 64 bits."""
    left, right = number >> half, number & ((1 << half) - 1)
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_mixed(key + turn * 0x9E3779B97F4A7C15 + right) >> (64 - half))
    return left << half | right


def _mixed(word: int) -> int:
    """Mix 64 bits until they look random, by the end of splitmix64."""
    word &= _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)
