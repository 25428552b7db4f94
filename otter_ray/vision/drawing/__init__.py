"""Procedural documents: bank cards, identity cards and forms that nobody has to collect.

Documents come in families. A family shares kind, layout and colours; its members differ in artwork, photo,
emblem and texts. So two families are easy to tell apart, and two members are not.
"""

from __future__ import annotations

import numpy as np

from otter_ray.vision.drawing.cards import bank_card, identity_card
from otter_ray.vision.drawing.family import random_family
from otter_ray.vision.drawing.forms import form
from otter_ray.vision.drawing.ornaments import Image
from otter_ray.vision.drawing.paper import blank_paper

FAMILIES = 48
_CARD_ASPECT, _PAGE_ASPECT = 85.6 / 53.98, 210 / 297
_PRINTERS = {"bank": bank_card, "identity": identity_card, "form": form}


def draw_document(index: int, seed: int = 0, width: int = 384) -> Image:
    """Draw document `index` of the endless series `seed`: uint8 [H, W, 3] RGB, where W is `width` pixels.

    The same (index, seed, width) makes the same pixels. Cards have the aspect of ID-1, forms that of upright
    A4. Members of family f are the indices f, f + FAMILIES, f + 2 FAMILIES and so on.
    """
    family = random_family(np.random.default_rng([seed, 0, index % FAMILIES]))
    rng = np.random.default_rng([seed, 1, index])
    aspect = _PAGE_ASPECT if family.kind == "form" else _CARD_ASPECT
    image = blank_paper(family, rng, (round(width / aspect), width))
    _PRINTERS[family.kind](image, family, rng)
    return image
